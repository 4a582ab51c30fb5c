public import FlowCore
import Foundation

/// What can go wrong in the store.
public enum StoreError: Error, Sendable, Hashable, CustomStringConvertible {
  case unwritable(path: String, reason: String)
  case unreadable(String)
  case missing(Digest)
  case changed(String)
  case outOfMemory

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unwritable(let path, let reason): "can't write \(path): \(reason)"
    case .unreadable(let reason): "can't be read: \(reason)"
    case .missing(let digest): "object \(digest.short) is missing or damaged; it will be made again"
    case .changed(let path): "\(path) changed while it was read; run again"
    case .outOfMemory: "out of memory"
    }
  }

  /// The failure of a call. On a full disk it says how much would be needed at least, and how much is free.
  init(_ error: FileError, needed: Int? = nil) {
    guard error.call != "read" else {
      self = .unreadable("\(error)")
      return
    }
    var reason = "\(error.call): \(error.reason)"
    if error.code == ENOSPC || error.code == EDQUOT {
      let need = needed.map { "\($0) bytes needed, " } ?? ""
      reason += " (\(need)\(Store.freeBytes(error.path)) bytes free); 'flow cache gc' makes room"
    }
    self = .unwritable(path: error.path, reason: reason)
  }
}

/// A file that is written but not yet in its place.
struct PreparedFile {
  let temporary: String, path: String, isOurs: Bool
}

/// The content-hashed store: immutable objects named by the SHA-256 of what they hold, records of finished actions by
/// key, scratch and checkpoints of actions in progress. Several processes may use one store at once; everything is
/// published by rename, and a record only after its objects.
public struct Store: Sendable {
  /// The folder, usually `cache`.
  public let root: String
  /// The way to the disk.
  public let disk: any FileSystem
  /// Whether commits are synced.
  public let durability: Durability
  let uncommitted = Uncommitted()

  /// The store at `root`, made if need be.
  /// - Throws: `StoreError.unwritable`.
  public init(root: String, disk: any FileSystem = Disk.standard, durability: Durability = .standard)
    throws(StoreError)
  {
    self.root = root
    self.disk = disk
    self.durability = durability
    for folder in ["objects", "actions", "work", "tmp", "quarantine", "runs"]
    where access("\(root)/\(folder)", W_OK) != 0 {
      try makeFolder(root + "/" + folder)
    }
  }

  /// Makes a folder and those above it. A file that lies in its way within the store is set aside.
  func makeFolder(_ path: String) throws(StoreError) {
    do throws(FileError) { try disk.makeFolders(path) } catch {
      guard error.code == EEXIST || error.code == ENOTDIR, clear(path) else { throw StoreError(error) }
      do throws(FileError) { try disk.makeFolders(path) } catch { throw StoreError(error) }
    }
  }

  /// Sets aside the first thing on the way to the folder `path` within the store that is none; whether there was one.
  private func clear(_ path: String) -> Bool {
    guard path.hasPrefix(root + "/") else { return false }
    var here = root
    for part in path.dropFirst(root.count + 1).split(separator: "/") {
      here += "/" + part
      var status = stat()
      if lstat(here, &status) == 0, status.st_mode & S_IFMT != S_IFDIR {
        quarantine(here)
        return true
      }
    }
    return false
  }

  /// Where an object lies.
  public func path(of digest: Digest) -> String { "\(root)/\(Store.objectName(digest))" }

  /// Whether the object is there (its content is checked when read).
  public func contains(_ digest: Digest) -> Bool { access(path(of: digest), F_OK) == 0 }

  /// Whether the object is there; its time is set to now, under the lock that a collection of garbage takes to look at it
  /// and delete it, so that it is spared.
  public func isKept(_ digest: Digest) -> Bool {
    guard contains(digest) else { return false }
    let lock = lock(digest)
    defer { withExtendedLifetime(lock) {} }
    do throws(FileError) { try disk.touch(path(of: digest)) } catch { return false }
    return true
  }

  /// Stores `bytes`.
  /// - Throws: `StoreError`.
  @discardableResult
  public func put(_ bytes: [UInt8]) throws(StoreError) -> Digest {
    let digest = Digest(of: bytes)
    if isKept(digest) { return digest }
    try publish(try ObjectFile.encode(bytes), at: path(of: digest), mode: 0o444)
    return digest
  }

  /// Stores the bytes of the file at `path`, a piece at a time however large it is.
  /// - Throws: `StoreError`.
  public func put(contentsOf path: String) throws(StoreError) -> (digest: Digest, size: Int) {
    // A small file is read whole: what is there already then costs no temporary file.
    if let bytes = Store.small(path) { return (try put(bytes), bytes.count) }
    let input = try Store.openSource(path)
    defer { Foundation.close(input.file.descriptor) }
    let temporary = temporaryName()
    let output = try opening(temporary, .create(0o444))
    do throws(StoreError) {
      let digest: Digest
      do throws(StoreError) {
        digest = try ObjectFile.encode(input.file, size: input.size, to: output, disk)
      } catch {
        try? disk.close(output)
        throw error
      }
      try closing(output)
      if isKept(digest) {
        disk.discard(temporary)
      } else {
        try moving(temporary, to: self.path(of: digest))
      }
      return (digest, input.size)
    } catch {
      disk.discard(temporary)
      throw error
    }
  }

  /// The bytes of a regular file of 1 MiB at most.
  private static func small(_ path: String) -> [UInt8]? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= 1 << 20 else {
      return nil
    }
    return FileBytes.read(path)
  }

  /// Opens a file of the user's; a symbolic link is followed, what is no regular file is refused.
  static func openSource(_ path: String) throws(StoreError) -> (file: OpenFile, size: Int) {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw .unreadable("\(path): \(String(cString: strerror(errno)))") }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(file)
      throw .unreadable("\(path): not a file")
    }
    return (OpenFile(descriptor: file, path: path), Int(status.st_size))
  }

  /// Writes an object's bytes to the file at `path`, checked against its digest, a piece at a time; a damaged one is moved
  /// to quarantine.
  /// - Parameter size: the object's size where it is known: what claims to be larger is damaged.
  /// - Throws: `StoreError.missing`, `StoreError.unwritable`.
  public func materialise(_ digest: Digest, size: Int = .max, at path: String, mode: UInt32 = 0o644)
    throws(StoreError)
  {
    let input = try openObject(digest)
    defer { try? disk.close(input) }
    let folder = Path.parent(path)
    do throws(FileError) { try disk.makeFolders(folder.isEmpty ? "." : folder) } catch {
      throw StoreError(error)
    }
    let temporary = "\(folder.isEmpty ? "." : folder)/.flow-\(Temporaries.name())"
    let output = try opening(temporary, .create(mode))
    do throws(StoreError) {
      let found: Digest?
      do throws(StoreError) {
        found = try ObjectFile.decode(input, to: output, limit: size, disk)
      } catch {
        try? disk.close(output)
        throw error
      }
      try closing(output)
      guard found == digest else {
        quarantine(self.path(of: digest))
        throw .missing(digest)
      }
      try renaming(temporary, path)
    } catch {
      disk.discard(temporary)
      throw error
    }
  }

  private func renaming(_ from: String, _ to: String) throws(StoreError) {
    do throws(FileError) { try disk.rename(from, to) } catch { throw StoreError(error) }
  }

  /// Opens an object's file. What is no file is set aside.
  private func openObject(_ digest: Digest) throws(StoreError) -> OpenFile {
    let path = path(of: digest)
    do throws(FileError) {
      let file = try disk.opening(path, .read)
      var status = stat()
      if fstat(file.descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG { return file }
      try? disk.close(file)
    } catch {
      guard [ENOENT, ENOTDIR, ELOOP, ENXIO].contains(error.code) else { throw StoreError(error) }
      if error.code == ENOENT { throw .missing(digest) }
    }
    quarantine(path)
    throw .missing(digest)
  }

  /// The bytes of an object, checked against its digest; a damaged one is moved to quarantine.
  /// - Throws: `StoreError.missing`; `StoreError.unreadable` when the device fails.
  public func get(_ digest: Digest, size: Int = .max) throws(StoreError) -> [UInt8] {
    let path = path(of: digest)
    let file: [UInt8]?
    do throws(FileError) { file = try disk.contents(path) } catch {
      guard [EISDIR, ELOOP, ENXIO].contains(error.code) else { throw StoreError(error) }
      quarantine(path)
      throw .missing(digest)
    }
    guard let file else { throw .missing(digest) }
    if let bytes = try ObjectFile.decode(file, limit: size), Digest(of: bytes) == digest { return bytes }
    quarantine(path)
    throw .missing(digest)
  }

  /// Deletes an object.
  public func remove(_ digest: Digest) { disk.discard(path(of: digest)) }

  /// Moves a damaged file out of the way; where that can't be, deletes it.
  public func quarantine(_ path: String) {
    let name = (path as NSString).lastPathComponent
    let to = "\(root)/quarantine/\(name).\(UInt64.random(in: 0 ... .max))"
    do throws(FileError) { try disk.rename(path, to) } catch { disk.discard(path) }
  }

  private func temporaryName() -> String { "\(root)/tmp/\(Temporaries.name())" }

  private func opening(_ path: String, _ mode: OpenMode) throws(StoreError) -> OpenFile {
    do throws(FileError) { return try disk.opening(path, mode) } catch {
      guard error.code == ENOENT else { throw StoreError(error) }
      // Someone emptied the cache meanwhile.
      try makeFolder(Path.parent(path))
      do throws(FileError) { return try disk.opening(path, mode) } catch { throw StoreError(error) }
    }
  }

  /// Closes what was written; only then is it known to have room.
  private func closing(_ file: OpenFile) throws(StoreError) {
    do throws(FileError) { try disk.close(file) } catch {
      // The system has closed it all the same.
      if error.code != EINTR { throw StoreError(error) }
    }
  }

  /// Renames within the store; the folder is made, and what is no file there is set aside.
  func moving(_ from: String, to path: String) throws(StoreError) {
    for _ in 0..<3 {
      do throws(FileError) {
        try disk.rename(from, path)
        return
      } catch {
        switch error.code {
        case ENOENT, ENOTDIR: try makeFolder(Path.parent(path))
        case EISDIR, ENOTEMPTY, EEXIST: quarantine(path)
        default: throw StoreError(error)
        }
      }
    }
    throw .unwritable(path: path, reason: "something else comes back there again and again")
  }

  /// Writes a file whole or not at all: a temporary file on the same file system, then renamed. What a power cut tears
  /// is found by the digest when it is read.
  /// - Throws: `StoreError.unwritable`.
  public func publish(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o644) throws(StoreError) {
    try finish(try prepare(bytes, at: path, mode: mode))
  }

  /// Writes a file beside its place, where `commit` or `publish` will put it.
  func prepare(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o644) throws(StoreError) -> PreparedFile {
    let above = Path.parent(path)
    let folder = above.isEmpty ? "." : above
    // Beside the target where that lies outside the store, which may be on another file system.
    let isOurs = path.hasPrefix(root + "/")
    let temporary = isOurs ? temporaryName() : "\(folder)/.flow-\(Temporaries.name())"
    if !isOurs { try makeFolder(folder) }
    do throws(FileError) { try disk.writeFile(temporary, bytes, permissions: mode) } catch {
      throw StoreError(error, needed: bytes.count)
    }
    return PreparedFile(temporary: temporary, path: path, isOurs: isOurs)
  }

  /// Puts a prepared file in its place.
  func finish(_ file: PreparedFile) throws(StoreError) {
    do throws(StoreError) {
      if file.isOurs {
        try moving(file.temporary, to: file.path)
      } else {
        try renaming(file.temporary, file.path)
      }
    } catch {
      disk.discard(file.temporary)
      throw error
    }
  }

  /// Deletes the files of `folder` that are not among `names`.
  func removeUnused(in folder: String, keeping names: Set<String>) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where !names.contains(name) {
      disk.discard("\(folder)/\(name)")
    }
  }

  /// Free bytes of the file system of `path`.
  static func freeBytes(_ path: String) -> Int {
    var status = statvfs()
    var at = path
    while statvfs(at, &status) != 0 {
      let above = Path.parent(at)
      guard above != at else { return 0 }
      at = above.isEmpty ? "." : above
    }
    return Int(status.f_bavail) * Int(status.f_frsize)
  }

  /// Takes the kernel's lock of `key`, waiting for whoever has it; it ends with the returned value or the process.
  public func lock(_ key: Digest) -> StoreLock? { StoreLock(path: root + "/locks", key: key, disk) }

  /// The same without waiting; `nil` when somebody has it.
  public func lockIfFree(_ key: Digest) -> StoreLock? {
    StoreLock(path: root + "/locks", key: key, disk, waits: false)
  }

  /// The scratch folder of an action.
  public func workFolder(_ key: Digest) -> String { "\(root)/work/\(key.hex)" }
}

/// An exclusive lock held by the kernel: it dies with its holder. One byte of one file stands for a key, so that locks
/// leave no files behind; two keys whose first 62 bits agree would share a lock, which only costs time.
public final class StoreLock: Sendable {
  private let file: Int32

  init?(path: String, key: Digest, _ disk: any FileSystem, waits: Bool = true) {
    guard let file = try? disk.opening(path, .lock).descriptor else { return nil }
    self.file = file
    var range = flock()
    range.l_type = Int16(F_WRLCK)
    range.l_whence = Int16(SEEK_SET)
    range.l_start = key.withBytes { Int(truncatingIfNeeded: $0.loadUnaligned(as: UInt64.self) >> 2) }
    range.l_len = 1
    // Of the open file, not of the process: threads of one process exclude each other too.
    while fcntl(file, waits ? StoreLock.setAndWait : StoreLock.set, &range) != 0 {
      if errno != EINTR { return nil }
    }
  }

  /// `F_OFD_SETLK` and `F_OFD_SETLKW` of Linux.
  private static let set: Int32 = 37, setAndWait: Int32 = 38

  deinit { close(file) }
}
