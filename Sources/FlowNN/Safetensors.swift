import FlowCore
import FlowTensor
public import Foundation

/// A safetensors file (github.com/huggingface/safetensors, format description), memory-mapped: a tensor's bytes are read
/// when it is asked for, and never all of the file at once. Stricter than the reference: duplicate names, unknown fields
/// and ranks over 64 are refused too. Nothing in it is ever run.
///
/// A file that another program cuts short while it is mapped gives `SafetensorsError.cutShort`, not a crash.
public struct SafetensorsFile: Sendable {
  /// A tensor's entry.
  public struct Entry: Sendable, Hashable {
    /// Its element type, as the file names it.
    public let type: String
    /// Its dimensions.
    public let shape: [Int]
    /// Its first byte and the one after its last, after the header.
    let begin: Int, end: Int
  }

  /// The entries by name.
  public let entries: [String: Entry]
  /// `__metadata__`.
  public let metadata: [String: String]
  private let source: ByteSource
  private let start: Int

  /// The names, sorted.
  public var names: [String] { entries.keys.sorted() }

  static let bits: [String: Int] = [
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32,
    "U32": 32, "F32": 32, "C64": 64, "I64": 64, "U64": 64, "F64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E8M0": 8,
  ]

  /// Maps and checks the file at `path`.
  /// - Throws: `SafetensorsError`.
  public init(path: String) throws(SafetensorsError) {
    do throws(FileError) { source = try ByteSource(path: path) } catch {
      throw .unreadable("\(path): \(error.reason)")
    }
    (start, entries, metadata) = try source.withBytes(SafetensorsFile.header)
    guard !source.isTorn else { throw .cutShort }
  }

  /// Checks the bytes of a file.
  /// - Throws: `SafetensorsError`.
  public init(data: Data) throws(SafetensorsError) {
    source = ByteSource(data)
    (start, entries, metadata) = try source.withBytes(SafetensorsFile.header)
  }

  /// Where the data begin, and the header's contents once they are found consistent.
  private static func header(
    _ bytes: UnsafeRawBufferPointer
  ) throws(SafetensorsError) -> (Int, [String: Entry], [String: String]) {
    guard bytes.count >= 8 else { throw .truncated }
    let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard length <= 100_000_000 else { throw .headerTooLarge(Int(clamping: length)) }
    let start = 8 + Int(length)
    guard bytes.count >= start else { throw .truncated }
    var parser = HeaderParser(bytes: UnsafeRawBufferPointer(rebasing: bytes[8..<start]))
    let (entries, metadata) = try parser.parse()
    var position = 0
    for (name, entry) in entries.sorted(by: {
      ($0.value.begin, $0.value.end, $0.key) < ($1.value.begin, $1.value.end, $1.key)
    }) {
      guard entry.begin == position, entry.end >= entry.begin else { throw .notContiguous(tensor: name) }
      let size = try size(of: entry, name)
      guard size % 8 == 0, size / 8 == entry.end - entry.begin else {
        throw .sizeMismatch(tensor: name, expected: size / 8, found: entry.end - entry.begin)
      }
      position = entry.end
    }
    guard position <= bytes.count, start + position == bytes.count else {
      throw .notCovered(expected: position, found: bytes.count - start)
    }
    return (start, entries, metadata)
  }

  /// Bits of a tensor by its type and shape.
  private static func size(of entry: Entry, _ name: String) throws(SafetensorsError) -> Int {
    guard let bits = SafetensorsFile.bits[entry.type] else {
      throw .unknownType(tensor: name, type: entry.type)
    }
    // A dimension of 0 must not hide an overflow of the others.
    var size = bits
    for dimension in entry.shape where dimension > 0 {
      let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
      if overflow { throw .overflow(tensor: name) }
      size = product
    }
    return entry.shape.contains(0) ? 0 : size
  }

  /// The tensor `name` where it lies in the mapped file; `nil` when the file is in memory.
  /// - Throws: `SafetensorsError.noTensor`.
  func borrowed(_ name: String) throws(SafetensorsError) -> BorrowedMemory? {
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    return source.borrowed(start + entry.begin..<start + entry.end)
  }

  /// Calls `body` with the raw bytes of the tensor `name`, little-endian and not necessarily aligned, without a copy.
  /// - Throws: `SafetensorsError.noTensor`; `cutShort` when the file lost bytes meanwhile; what `body` throws.
  public func withBytes<R>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    let range = start + entry.begin..<start + entry.end
    let result = try source.withBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    guard !source.isTorn else { throw SafetensorsError.cutShort }
    return result
  }
}
