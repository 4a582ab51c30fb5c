public import FlowCore
import Foundation

/// What can go wrong in the store.
public enum StoreError: Error, Sendable, Hashable, CustomStringConvertible {
  case unwritable(path: String, reason: String)
  case missing(Digest)
  case outOfMemory
  case compression(String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unwritable(let path, let reason): "can't write \(path): \(reason)"
    case .missing(let digest): "object \(digest.short) is missing or damaged; it will be made again"
    case .outOfMemory: "out of memory"
    case .compression(let why): "zstd: \(why)"
    }
  }
}

/// The content-hashed store: immutable zstd objects named by the SHA-256 of what they hold, records of finished actions by
/// key, scratch and checkpoints of actions in progress. Several processes may use one store at once; everything is
/// published by rename, and a record only after its objects.
public struct Store: Sendable {
  /// The folder, usually `cache`.
  public let root: String

  /// The store at `root`, made if need be.
  /// - Throws: `StoreError.unwritable`.
  public init(root: String) throws(StoreError) {
    self.root = root
    for folder in ["objects", "actions", "work", "tmp", "quarantine", "runs", "locks"] {
      try Store.makeFolder(root + "/" + folder)
    }
  }

  static func makeFolder(_ path: String) throws(StoreError) {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw .unwritable(path: path, reason: error.localizedDescription)
    }
  }

  /// Where an object lies.
  public func path(of digest: Digest) -> String {
    "\(root)/objects/\(digest.hex.prefix(2))/\(digest.hex).zst"
  }

  /// Whether the object is there (its content is checked when read).
  public func contains(_ digest: Digest) -> Bool { access(path(of: digest), F_OK) == 0 }

  /// Stores `bytes`.
  /// - Throws: `StoreError`.
  @discardableResult
  public func put(_ bytes: [UInt8]) throws(StoreError) -> Digest {
    let digest = Digest(of: bytes)
    if contains(digest) { return digest }
    var result: Result<[UInt8], StoreError> = .failure(.outOfMemory)
    bytes.withUnsafeBytes { raw in
      do throws(StoreError) { result = .success(try Zstd.compress(raw)) } catch { result = .failure(error) }
    }
    try publish(try result.get(), at: path(of: digest), mode: 0o444)
    return digest
  }

  /// The bytes of an object, checked against its digest; a damaged one is moved to quarantine.
  /// - Throws: `StoreError.missing`.
  public func get(_ digest: Digest) throws(StoreError) -> [UInt8] {
    guard let frame = FileBytes.read(path(of: digest)) else { throw .missing(digest) }
    if let bytes = Zstd.decompress(frame), Digest(of: bytes) == digest { return bytes }
    quarantine(path(of: digest))
    throw .missing(digest)
  }

  /// Deletes an object.
  public func remove(_ digest: Digest) { unlink(path(of: digest)) }

  /// Moves a damaged file out of the way.
  public func quarantine(_ path: String) {
    let name = (path as NSString).lastPathComponent
    rename(path, "\(root)/quarantine/\(name).\(UInt64.random(in: 0 ... .max))")
  }

  /// Writes a file whole or not at all: a temporary file on the same file system, then renamed. What a power cut tears
  /// is found by the digest when it is read.
  /// - Throws: `StoreError.unwritable`.
  public func publish(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o644) throws(StoreError) {
    let folder = (path as NSString).deletingLastPathComponent
    try Store.makeFolder(folder.isEmpty ? "." : folder)
    // Beside the target where that lies outside the store, which may be on another file system.
    let name = "\(getpid())-\(UInt64.random(in: 0 ... .max))"
    let temporary =
      path.hasPrefix(root + "/") ? "\(root)/tmp/\(name)" : "\(folder.isEmpty ? "." : folder)/.flow-\(name)"
    let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0 else { throw Store.failure(temporary) }
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { raw in
        write(file, raw.baseAddress.map { $0 + done }, bytes.count - done)
      }
      if count < 0 {
        if errno == EINTR { continue }
        let error = Store.failure(temporary)
        close(file)
        unlink(temporary)
        throw error
      }
      done += count
    }
    guard close(file) == 0, rename(temporary, path) == 0 else {
      let error = Store.failure(path)
      unlink(temporary)
      throw error
    }
  }

  /// Deletes the files of `folder` that are not among `names`.
  func removeUnused(in folder: String, keeping names: Set<String>) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where !names.contains(name) {
      unlink("\(folder)/\(name)")
    }
  }

  private static func failure(_ path: String) -> StoreError {
    let code = errno
    var reason = String(cString: strerror(code))
    if code == ENOSPC,
      let free = try? FileManager.default.attributesOfFileSystem(
        forPath: (path as NSString).deletingLastPathComponent)[.systemFreeSize] as? Int
    {
      reason += " (\(free / 1_048_576) MiB free); 'flow cache gc' makes room"
    }
    return .unwritable(path: path, reason: reason)
  }

  /// Takes the kernel's lock of `name`; it ends with the returned value or the process.
  public func lock(_ name: String) -> StoreLock? { StoreLock(path: "\(root)/locks/\(name)") }

  /// The scratch folder of an action.
  public func workFolder(_ key: Digest) -> String { "\(root)/work/\(key.hex)" }
}

/// An exclusive lock held by the kernel: it dies with its holder.
public final class StoreLock: Sendable {
  private let file: Int32

  init?(path: String) {
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { return nil }
    self.file = file
    while flock(file, LOCK_EX) != 0 { if errno != EINTR { return nil } }
  }

  deinit { close(file) }
}
