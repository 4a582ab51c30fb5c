import FlowCore
import FlowTensor
import Foundation

/// The bytes of a file, mapped or in memory.
struct ByteSource: Sendable {
  private enum Kind: Sendable {
    case mapped(MappedFile)
    case memory(Data)
  }

  private let kind: Kind

  /// Maps the file at `path`.
  init(path: String) throws(FileError) { kind = .mapped(try MappedFile(path)) }

  init(_ data: Data) { kind = .memory(data) }

  /// Whether a byte was looked at that the file no longer has.
  var isTorn: Bool { if case .mapped(let file) = kind { file.isTorn } else { false } }

  /// The bytes in `range` as memory to be read where it lies, when the file is mapped.
  func borrowed(_ range: Range<Int>) -> BorrowedMemory? {
    guard case .mapped(let file) = kind else { return nil }
    return BorrowedMemory(UnsafeRawBufferPointer(rebasing: file.bytes[range]), keeper: MappedKeeper(file))
  }

  /// Calls `body` with all bytes, without a copy.
  func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    switch kind {
    case .mapped(let file): return try withExtendedLifetime(file) { () throws(E) in try body(file.bytes) }
    case .memory(let data):
      // The closure's error type is lost on the way through Foundation.
      let result = data.withUnsafeBytes { bytes in Result { () throws(E) in try body(bytes) } }
      return try result.get()
    }
  }
}

/// A mapped file whose pages a device reads.
private final class MappedKeeper: MemoryKeeper {
  private let file: MappedFile
  init(_ file: MappedFile) { self.file = file }
  var fault: String? { file.isTorn ? SafetensorsError.cutShort.description : nil }
}
