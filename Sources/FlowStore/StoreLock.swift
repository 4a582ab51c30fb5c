import FlowCore
import Foundation

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
