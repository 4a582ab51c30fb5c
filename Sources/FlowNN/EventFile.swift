/// A file of TensorBoard events: numbers, sounds and pictures by tag and step.
///
/// The format: records as TensorFlow's `lib/io/record_writer` frames them (length, masked CRC-32C of it, payload, masked
/// CRC-32C of that), each an `Event` message of `core/util/event.proto`. Times are the steps themselves, as seconds, so
/// that the same training gives the same bytes.
public struct EventFile: Sendable {
  /// The file so far.
  public private(set) var bytes: [UInt8]

  /// What TensorBoard looks for in a file's name.
  public static let name = "events.out.tfevents.flow"

  /// A file without values.
  public init() {
    bytes = []
    append(step: 0) { $0.text(3, "brain.Event:2") }
  }

  /// A number.
  public mutating func scalar(_ tag: String, _ value: Float, step: Int) {
    summary(tag, step) { $0.float(2, value) }
  }

  /// A sound, as the bytes of a WAV file of `frames` samples per channel.
  public mutating func audio(
    _ tag: String, wav: [UInt8], rate: Int, channels: Int, frames: Int, step: Int
  ) {
    summary(tag, step) { value in
      value.message(6) {
        $0.float(1, Float(rate))
        $0.integer(2, channels)
        $0.integer(3, frames)
        $0.bytes(4, wav)
        $0.text(5, "audio/wav")
      }
    }
  }

  /// A picture, as the bytes of a PNG file of 8-bit RGB.
  public mutating func image(_ tag: String, png: [UInt8], step: Int) {
    // The width and height of its header chunk.
    func number(at place: Int) -> Int {
      png.count < place + 4 ? 0 : png[place..<place + 4].reduce(0) { $0 << 8 | Int($1) }
    }
    summary(tag, step) { value in
      value.message(4) {
        $0.integer(1, number(at: 20))
        $0.integer(2, number(at: 16))
        $0.integer(3, 3)
        $0.bytes(4, png)
      }
    }
  }

  private mutating func summary(_ tag: String, _ step: Int, _ fill: (inout ProtocolBuffer) -> Void) {
    append(step: step) { event in
      event.message(5) { summary in
        summary.message(1) { value in
          value.text(1, tag)
          fill(&value)
        }
      }
    }
  }

  private mutating func append(step: Int, _ fill: (inout ProtocolBuffer) -> Void) {
    var event = ProtocolBuffer()
    event.double(1, Double(step))
    event.integer(2, step)
    fill(&event)
    let length = withUnsafeBytes(of: UInt64(event.bytes.count).littleEndian) { Array($0) }
    bytes += length
    bytes += EventFile.check(length)
    bytes += event.bytes
    bytes += EventFile.check(event.bytes)
  }

  /// The masked CRC-32C (Castagnoli, RFC 3720 B.4).
  private static func check(_ bytes: [UInt8]) -> [UInt8] {
    var crc = UInt32.max
    for byte in bytes { crc = table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ crc >> 8 }
    crc = ~crc
    let masked = (crc >> 15 | crc << 17) &+ 0xa282_ead8
    return withUnsafeBytes(of: masked.littleEndian) { Array($0) }
  }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc >> 1 ^ (crc & 1 == 0 ? 0 : 0x82f6_3b78) }
  }
}

/// Writes protocol buffer messages, wire format (protobuf.dev/programming-guides/encoding).
private struct ProtocolBuffer {
  private(set) var bytes: [UInt8] = []

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  mutating func integer(_ field: Int, _ value: Int) {
    varint(UInt64(field) << 3)
    varint(UInt64(bitPattern: Int64(value)))
  }

  mutating func double(_ field: Int, _ value: Double) {
    varint(UInt64(field) << 3 | 1)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += Array($0) }
  }

  mutating func float(_ field: Int, _ value: Float) {
    varint(UInt64(field) << 3 | 5)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += Array($0) }
  }

  mutating func bytes(_ field: Int, _ value: [UInt8]) {
    varint(UInt64(field) << 3 | 2)
    varint(UInt64(value.count))
    bytes += value
  }

  mutating func text(_ field: Int, _ value: String) { bytes(field, Array(value.utf8)) }

  mutating func message(_ field: Int, _ fill: (inout ProtocolBuffer) -> Void) {
    var inner = ProtocolBuffer()
    fill(&inner)
    bytes(field, inner.bytes)
  }
}
