import CProcess
import Foundation

/// What a call to the system came to: the call, the path, and the reason.
public struct FileError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The call, such as `write`.
  public var call: String
  /// What it was about.
  public var path: String
  /// The `errno`.
  public var code: Int32

  /// An error of `call`.
  public init(_ call: String, _ path: String, _ code: Int32) {
    self.call = call
    self.path = path
    self.code = code
  }

  /// The system's words for it.
  public var reason: String { String(cString: strerror(code)) }
  /// The message, for a reader.
  public var description: String { "\(call) \(path): \(reason)" }
}

/// An open file, to be closed by whoever opened it.
public struct OpenFile: Sendable {
  /// The descriptor.
  public let descriptor: Int32
  /// What was opened.
  public let path: String

  /// The file at `path`, open as `descriptor`.
  public init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }
}

/// How a file is opened.
public enum OpenMode: Sendable, Hashable {
  /// To read a regular file; a symbolic link is an error.
  case read
  /// To write a file that isn't there yet, with these permissions.
  case create(UInt32)
  /// To lock: read and write, made if need be.
  case lock
  /// A folder, to sync it.
  case folder
}

/// The one door to the disk: everything that publishes state goes through it, so that tests can stand behind it and see
/// what happens when any one call fails, is interrupted, or is the last before the power goes.
///
/// Calls are single system calls, as they come: they may be interrupted or do less than asked. The methods of the
/// extension below are what code uses.
public protocol FileSystem: Sendable {
  /// Opens a file.
  func open(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile
  /// Reads at most `buffer.count` bytes; 0 at the end.
  func read(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int
  /// Writes at most all of `bytes`; the number written.
  func write(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) -> Int
  /// Makes what was written to the file (or the names in the folder) durable.
  func sync(_ file: OpenFile) throws(FileError)
  /// Makes everything on the file system of `file` durable.
  func syncAll(_ file: OpenFile) throws(FileError)
  /// Closes a file.
  func close(_ file: OpenFile) throws(FileError)
  /// Gives a file another name, in place of what had it.
  func rename(_ from: String, _ to: String) throws(FileError)
  /// Gives a file a second name.
  func link(_ from: String, _ to: String) throws(FileError)
  /// Deletes a file.
  func unlink(_ path: String) throws(FileError)
  /// Makes a folder.
  func makeFolder(_ path: String) throws(FileError)
  /// Sets a file's times to now.
  func touch(_ path: String) throws(FileError)
}

/// The system's file system.
public struct RealFileSystem: FileSystem {
  /// The only one.
  public init() {}

  /// See `FileSystem`.
  public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile {
    let descriptor =
      switch mode {
      case .read: Foundation.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      case .create(let permissions):
        Foundation.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, permissions)
      case .lock: Foundation.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      case .folder: Foundation.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      }
    guard descriptor >= 0 else { throw FileError("open", path, errno) }
    return OpenFile(descriptor: descriptor, path: path)
  }

  /// See `FileSystem`.
  public func read(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
    let count = Foundation.read(file.descriptor, buffer.baseAddress, buffer.count)
    guard count >= 0 else { throw FileError("read", file.path, errno) }
    return count
  }

  /// See `FileSystem`.
  public func write(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) -> Int {
    let count = Foundation.write(file.descriptor, bytes.baseAddress, bytes.count)
    guard count >= 0 else { throw FileError("write", file.path, errno) }
    return count
  }

  /// See `FileSystem`.
  public func sync(_ file: OpenFile) throws(FileError) {
    guard fsync(file.descriptor) == 0 else { throw FileError("fsync", file.path, errno) }
  }

  /// See `FileSystem`.
  public func syncAll(_ file: OpenFile) throws(FileError) {
    guard flow_syncfs(file.descriptor) == 0 else { throw FileError("syncfs", file.path, errno) }
  }

  /// See `FileSystem`.
  public func close(_ file: OpenFile) throws(FileError) {
    guard Foundation.close(file.descriptor) == 0 else { throw FileError("close", file.path, errno) }
  }

  /// See `FileSystem`.
  public func rename(_ from: String, _ to: String) throws(FileError) {
    guard Foundation.rename(from, to) == 0 else { throw FileError("rename", to, errno) }
  }

  /// See `FileSystem`.
  public func link(_ from: String, _ to: String) throws(FileError) {
    guard Foundation.link(from, to) == 0 else { throw FileError("link", to, errno) }
  }

  /// See `FileSystem`.
  public func unlink(_ path: String) throws(FileError) {
    guard Foundation.unlink(path) == 0 else { throw FileError("unlink", path, errno) }
  }

  /// See `FileSystem`.
  public func makeFolder(_ path: String) throws(FileError) {
    guard mkdir(path, 0o755) == 0 else { throw FileError("mkdir", path, errno) }
  }

  /// See `FileSystem`.
  public func touch(_ path: String) throws(FileError) {
    guard utimensat(AT_FDCWD, path, nil, AT_SYMLINK_NOFOLLOW) == 0 else {
      throw FileError("touch", path, errno)
    }
  }
}

extension FileSystem {
  /// Repeats a call that a signal interrupted.
  private func insisting<T>(_ body: () throws(FileError) -> T) throws(FileError) -> T {
    while true {
      do throws(FileError) { return try body() } catch { if error.code != EINTR { throw error } }
    }
  }

  /// Opens a file, whatever interrupts.
  public func opening(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile {
    try insisting { () throws(FileError) in try open(path, mode) }
  }

  /// Fills `buffer` as far as the file goes; the bytes read.
  public func fill(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
    var done = 0
    while done < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = try insisting { () throws(FileError) in try read(file, rest) }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// Writes all of `bytes`.
  public func writeAll(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) {
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      done += try insisting { () throws(FileError) in try write(file, rest) }
    }
  }

  /// Writes `bytes` to a new file. One that couldn't be written whole is not left behind.
  public func writeFile(_ path: String, _ bytes: [UInt8], permissions: UInt32, sync isSynced: Bool = false)
    throws(FileError)
  {
    try writeFile(path, permissions: permissions, sync: isSynced) { (file) throws(FileError) in
      let result = bytes.withUnsafeBytes { raw in
        Result { () throws(FileError) in try writeAll(file, raw) }
      }
      try result.get()
    }
  }

  /// Makes a new file of what `body` writes into it. One that couldn't be written whole is not left behind.
  public func writeFile(
    _ path: String, permissions: UInt32, sync isSynced: Bool = false,
    _ body: (OpenFile) throws(FileError) -> Void
  ) throws(FileError) {
    let file = try opening(path, .create(permissions))
    do throws(FileError) {
      try body(file)
      // A failed sync is not tried again: the system may have dropped the pages that it couldn't write.
      if isSynced { try insisting { () throws(FileError) in try sync(file) } }
    } catch {
      try? close(file)
      discard(path)
      throw error
    }
    do throws(FileError) { try close(file) } catch {
      if error.code != EINTR {
        discard(path)
        throw error
      }
    }
  }

  /// The bytes of the file at `path`; `nil` when there is none. A folder or a link there is an error (`EISDIR`, `ELOOP`).
  public func contents(_ path: String) throws(FileError) -> [UInt8]? {
    let file: OpenFile
    do throws(FileError) { file = try opening(path, .read) } catch {
      if error.code == ENOENT || error.code == ENOTDIR { return nil }
      throw error
    }
    defer { try? close(file) }
    var status = stat()
    guard fstat(file.descriptor, &status) == 0 else { throw FileError("stat", path, errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw FileError("read", path, EISDIR) }
    guard status.st_size < 1 << 40 else { throw FileError("read", path, EFBIG) }
    var failure: FileError?
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
      do throws(FileError) { count = try fill(file, UnsafeMutableRawBufferPointer(buffer)) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }

  /// Makes the folder at `path` and those above it, as far as they aren't there.
  public func makeFolders(_ path: String) throws(FileError) {
    do throws(FileError) { try insisting { () throws(FileError) in try makeFolder(path) } } catch {
      switch error.code {
      case EEXIST:
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw error }
      case ENOENT:
        let above = Path.parent(path)
        guard !above.isEmpty, above != path else { throw error }
        try makeFolders(above)
        do throws(FileError) { try insisting { () throws(FileError) in try makeFolder(path) } } catch {
          if error.code != EEXIST { throw error }
        }
      default: throw error
      }
    }
  }

  /// Makes what was written to the file, or to the folder's names, durable. An error is final: asking again could be
  /// answered with yes although the bytes are lost.
  public func syncing(_ path: String, folder: Bool = false) throws(FileError) {
    let file = try opening(path, folder ? .folder : .read)
    defer { try? close(file) }
    try insisting { () throws(FileError) in try sync(file) }
  }

  /// Makes everything on the file system of the folder `path` durable.
  public func syncingAll(_ path: String) throws(FileError) {
    let file = try opening(path, .folder)
    defer { try? close(file) }
    try insisting { () throws(FileError) in try syncAll(file) }
  }

  /// Deletes the file at `path`, where not being able to leaves only clutter.
  public func discard(_ path: String) { try? unlink(path) }
}
