import FlowNN
import Foundation
import Testing

@Suite struct EventFileTests {
  /// Records read back by their framing; the checks are those of RFC 3720's examples, computed bit by bit.
  private func records(_ bytes: [UInt8]) throws -> [[UInt8]] {
    func number(_ part: ArraySlice<UInt8>) -> Int { part.reversed().reduce(0) { $0 << 8 | Int($1) } }
    func masked(_ part: ArraySlice<UInt8>) -> Int {
      var crc = UInt32.max
      for byte in part {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : crc >> 1 ^ 0x82f6_3b78 }
      }
      return Int((~crc >> 15 | ~crc << 17) &+ 0xa282_ead8)
    }
    var (result, place): ([[UInt8]], Int) = ([], 0)
    while place < bytes.count {
      let length = number(bytes[place..<place + 8])
      #expect(number(bytes[place + 8..<place + 12]) == masked(bytes[place..<place + 8]))
      let payload = bytes[place + 12..<place + 12 + length]
      #expect(number(bytes[place + 12 + length..<place + 16 + length]) == masked(payload))
      result.append(Array(payload))
      place += 16 + length
    }
    return result
  }

  @Test func valuesAreFramedAndEncoded() throws {
    var file = EventFile()
    file.scalar("loss", 1.5, step: 300)
    file.image("spectrogram", png: [UInt8](repeating: 0, count: 16) + [0, 0, 1, 2, 0, 0, 0, 7], step: 0)
    file.audio("sample", wav: [1, 2, 3], rate: 24000, channels: 1, frames: 9, step: 2)
    let found = try records(file.bytes)
    #expect(found.count == 4)
    #expect(
      found[0] == [9] + [UInt8](repeating: 0, count: 8) + [16, 0, 26, 13] + Array("brain.Event:2".utf8))
    let time = withUnsafeBytes(of: Double(300).bitPattern.littleEndian) { Array($0) }
    #expect(
      found[1] == [9] + time + [16, 0xAC, 2, 42, 13, 10, 11, 10, 4] + Array("loss".utf8)
        + [0x15, 0, 0, 0xC0, 0x3F])
    // Height 7, width 258, 3 channels, then the picture.
    #expect(found[2].suffix(33).prefix(9) == [8, 7, 16, 0x82, 2, 24, 3, 34, 24])
    #expect(found[3].suffix(11) == [42, 9] + Array("audio/wav".utf8))
  }
}
