/// Writes values one after the other: numbers as LEB128, texts and blobs with their length before them.
public struct ByteWriter {
  /// What was written.
  public private(set) var bytes: [UInt8] = []

  /// Nothing yet.
  public init() {}

  /// A number.
  public mutating func number(_ value: Int) {
    // Zigzag: small negative numbers stay short.
    var rest = UInt64(bitPattern: Int64(value << 1) ^ Int64(value >> 63))
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  /// A number with its exact bits.
  public mutating func double(_ value: Double) {
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// A text.
  public mutating func text(_ value: String) {
    number(value.utf8.count)
    bytes.append(contentsOf: value.utf8)
  }

  /// A digest.
  public mutating func digest(_ value: Digest) { value.withBytes { bytes.append(contentsOf: $0) } }

  /// Bytes.
  public mutating func blob(_ value: [UInt8]) {
    number(value.count)
    bytes.append(contentsOf: value)
  }

  /// A list: its length, then each element as `body` writes it.
  @inlinable
  public mutating func list<C: Collection>(_ values: C, _ body: (inout ByteWriter, C.Element) -> Void) {
    number(values.count)
    for value in values { body(&self, value) }
  }
}

/// Reads what `ByteWriter` wrote. Any fault of the bytes makes every later value `nil`; nothing is trusted to be whole.
public struct ByteReader {
  @usableFromInline let bytes: [UInt8]
  @usableFromInline var position = 0

  /// Reads from the start.
  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Whether all was read.
  public var isAtEnd: Bool { position == bytes.count }

  /// A number.
  public mutating func number() -> Int? {
    var (value, shift): (UInt64, UInt64) = (0, 0)
    while position < bytes.count, shift < 64 {
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return Int(Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)) }
      shift += 7
    }
    position = bytes.count + 1
    return nil
  }

  private mutating func take(_ count: Int?) -> ArraySlice<UInt8>? {
    guard let count, count >= 0, position <= bytes.count, count <= bytes.count - position else {
      position = bytes.count + 1
      return nil
    }
    defer { position += count }
    return bytes[position..<position + count]
  }

  /// A number with its exact bits.
  public mutating func double() -> Double? {
    take(8).map { slice in
      Double(bitPattern: slice.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) })
    }
  }

  /// A text.
  public mutating func text() -> String? { take(number()).map { String(decoding: $0, as: UTF8.self) } }

  /// A digest.
  public mutating func digest() -> Digest? { take(32).map { $0.withUnsafeBytes { Digest(bytes: $0) } } }

  /// Bytes.
  public mutating func blob() -> [UInt8]? { take(number()).map(Array.init) }

  /// A list of what `body` reads; `nil` when one of its elements is faulty. Inlined, or every element would be handled by
  /// way of its type's description.
  @inlinable
  public mutating func list<T>(_ body: (inout ByteReader) -> T?) -> [T]? {
    // An element has at least a byte, so a length that the rest can't hold is a fault, not a reservation.
    guard let count = number(), count >= 0, count <= max(0, bytes.count - position) else { return nil }
    var result: [T] = []
    result.reserveCapacity(count)
    for _ in 0..<count {
      guard let value = body(&self) else { return nil }
      result.append(value)
    }
    return result
  }
}
