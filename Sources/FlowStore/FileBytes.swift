import Foundation

/// Reading and writing open files.
enum Descriptor {
  /// Fills `buffer` as far as the file goes; 0 at its end.
  static func read(_ file: Int32, _ buffer: inout [UInt8]) throws(StoreError) -> Int {
    var done = 0
    while done < buffer.count {
      let space = buffer.count - done
      let count = buffer.withUnsafeMutableBytes { raw in
        Foundation.read(file, raw.baseAddress.map { $0 + done }, space)
      }
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw .unreadable(String(cString: strerror(errno))) }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// Writes all of `bytes`.
  static func write(_ file: Int32, _ bytes: ArraySlice<UInt8>) throws(StoreError) {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Foundation.write(file, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw Store.failure("the cache") }
      rest = rest.dropFirst(count)
    }
  }
}

/// Whole files as arrays, by one read call.
public enum FileBytes {
  /// The file's bytes; `nil` when it can't be read.
  public static func read(_ path: String) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size < 1 << 40 else {
      return nil
    }
    var failed = false
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
      while count < buffer.count {
        let got = Foundation.read(file, buffer.baseAddress.map { $0 + count }, buffer.count - count)
        if got < 0, errno == EINTR { continue }
        failed = failed || got < 0
        if got <= 0 { break }
        count += got
      }
    }
    return failed ? nil : bytes
  }
}
