public import FlowCore
import Foundation

/// What can go wrong in the store.
public enum StoreError: Error, Sendable, Hashable, CustomStringConvertible {
  case unwritable(path: String, reason: String)
  case unreadable(String)
  case missing(Digest)
  case outOfMemory
  case compression(String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unwritable(let path, let reason): "can't write \(path): \(reason)"
    case .unreadable(let reason): "can't be read: \(reason)"
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
    for folder in ["objects", "actions", "work", "tmp", "quarantine", "runs"] {
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
  public func path(of digest: Digest) -> String { "\(root)/\(Store.objectName(digest))" }

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

  /// Stores the bytes of the file at `path`, a piece at a time however large it is.
  /// - Throws: `StoreError`.
  public func put(contentsOf path: String) throws(StoreError) -> (digest: Digest, size: Int) {
    let input = open(path, O_RDONLY | O_CLOEXEC)
    guard input >= 0 else { throw .unreadable("\(path): \(String(cString: strerror(errno)))") }
    defer { close(input) }
    let temporary = "\(root)/tmp/\(getpid())-\(UInt64.random(in: 0 ... .max))"
    let output = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o444)
    guard output >= 0 else { throw Store.failure(temporary) }
    do throws(StoreError) {
      let (digest, size) = try Zstd.compress(from: input, to: output)
      guard close(output) == 0 else { throw Store.failure(temporary) }
      if contains(digest) {
        unlink(temporary)
        return (digest, size)
      }
      try Store.makeFolder((self.path(of: digest) as NSString).deletingLastPathComponent)
      guard rename(temporary, self.path(of: digest)) == 0 else { throw Store.failure(self.path(of: digest)) }
      return (digest, size)
    } catch {
      unlink(temporary)
      throw error
    }
  }

  /// Writes an object's bytes to the file at `path`, checked against its digest, a piece at a time; a damaged one is moved
  /// to quarantine.
  /// - Throws: `StoreError.missing`, `StoreError.unwritable`.
  public func materialise(_ digest: Digest, at path: String, mode: UInt32 = 0o644) throws(StoreError) {
    let input = open(self.path(of: digest), O_RDONLY | O_CLOEXEC)
    guard input >= 0 else { throw .missing(digest) }
    defer { close(input) }
    let folder = (path as NSString).deletingLastPathComponent
    try Store.makeFolder(folder.isEmpty ? "." : folder)
    let temporary = "\(folder.isEmpty ? "." : folder)/.flow-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    let output = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard output >= 0 else { throw Store.failure(temporary) }
    do throws(StoreError) {
      let found = try Zstd.decompress(from: input, to: output)
      guard close(output) == 0 else { throw Store.failure(path) }
      guard found == digest else {
        quarantine(self.path(of: digest))
        throw .missing(digest)
      }
      guard rename(temporary, path) == 0 else { throw Store.failure(path) }
    } catch {
      unlink(temporary)
      throw error
    }
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

  static func failure(_ path: String) -> StoreError {
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

  /// Takes the kernel's lock of `key`, waiting for whoever has it; it ends with the returned value or the process.
  public func lock(_ key: Digest) -> StoreLock? { StoreLock(path: root + "/locks", key: key) }

  /// The scratch folder of an action.
  public func workFolder(_ key: Digest) -> String { "\(root)/work/\(key.hex)" }
}

/// An exclusive lock held by the kernel: it dies with its holder. One byte of one file stands for a key, so that locks
/// leave no files behind; two keys whose first 62 bits agree would share a lock, which only costs time.
public final class StoreLock: Sendable {
  private let file: Int32

  init?(path: String, key: Digest) {
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { return nil }
    self.file = file
    var range = flock()
    range.l_type = Int16(F_WRLCK)
    range.l_whence = Int16(SEEK_SET)
    range.l_start = key.withBytes { Int(truncatingIfNeeded: $0.loadUnaligned(as: UInt64.self) >> 2) }
    range.l_len = 1
    // Of the open file, not of the process: threads of one process exclude each other too.
    while fcntl(file, StoreLock.setAndWait, &range) != 0 { if errno != EINTR { return nil } }
  }

  /// `F_OFD_SETLKW` of Linux.
  private static let setAndWait: Int32 = 38

  deinit { close(file) }
}
