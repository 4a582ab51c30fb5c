import CProcess
import Foundation

/// A file's bytes without a copy: pages are read when they are looked at, and the system may drop them again.
///
/// A file that is cut short meanwhile doesn't end the process: what is gone reads as zeros, and `isTorn` says so. Look at
/// it after reading, before the result is used. What others write into the file may be seen or not.
public final class MappedFile: @unchecked Sendable {
  // Safe to share: both properties are constant, and the memory behind them is only read until the last reference goes.
  /// The bytes, valid as long as this object.
  public let bytes: UnsafeRawBufferPointer

  /// Whether a byte was read that the file no longer had.
  public var isTorn: Bool { bytes.baseAddress.map { flow_map_is_torn($0) != 0 } ?? false }

  /// Maps the regular file at `path`; a link is followed.
  /// - Throws: `FileError`, also for what isn't a regular file.
  public init(_ path: String) throws(FileError) {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw FileError("open", path, errno) }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw FileError("stat", path, errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw FileError("map", path, EINVAL) }
    let count = Int(status.st_size)
    guard count > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = flow_map(file, count) else { throw FileError("map", path, errno) }
    bytes = UnsafeRawBufferPointer(start: base, count: count)
  }

  deinit {
    if let base = bytes.baseAddress { flow_unmap(base, bytes.count) }
  }
}
