import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStore

/// Bytes come back as they were, whatever they are taken for.
@Suite struct CodecTests {
  private let folder: TemporaryFolder
  private let store: Store

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache")
  }

  /// A WAV file with a wave and a little noise in every channel.
  static func wave(
    channels: Int, bits: Int, frames: Int, seed: UInt64, tag: Int = 1, before: [UInt8] = [],
    claimed: Int? = nil,
    shift: Int = 0
  ) -> [UInt8] {
    func number(_ value: Int, _ bytes: Int) -> [UInt8] {
      (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let width = bits / 8
    var random = Philox(seed: seed, label: "wave")
    var data: [UInt8] = []
    let most = Double(1 << (bits - 1)) * 0.4
    for frame in 0..<frames {
      for channel in 0..<channels {
        let noise = Double(random.next() % 1000) / 1000 - 0.5
        let value = sin(Double(frame) * 0.03 * (1 + Double(channel) * 0.01)) * most + noise * most / 50
        data += number((Int(value) >> shift) << shift, width)
      }
    }
    var format = number(tag, 2) + number(channels, 2) + number(44100, 4) + number(44100 * channels * width, 4)
    format += number(channels * width, 2) + number(bits, 2)
    if tag == 0xFFFE {
      format +=
        number(22, 2) + number(bits, 2) + number(0, 4) + number(1, 2) + [UInt8](repeating: 7, count: 14)
    }
    let chunks =
      Array("WAVEfmt ".utf8) + number(format.count, 4) + format + before + Array("data".utf8)
      + number(claimed ?? data.count, 4)
    return Array("RIFF".utf8) + number(chunks.count + data.count, 4) + chunks + data
  }

  /// A 16-bit WAV file of what `value` gives for a frame and channel.
  static func sound(channels: Int, frames: Int, _ value: (Int, Int) -> Int) -> [UInt8] {
    var bytes = wave(channels: channels, bits: 16, frames: 0, seed: 0, claimed: 0)
    bytes.reserveCapacity(bytes.count + frames * channels * 2)
    for frame in 0..<frames {
      for channel in 0..<channels {
        let sample = UInt16(truncatingIfNeeded: value(frame, channel))
        bytes += [UInt8(truncatingIfNeeded: sample), UInt8(truncatingIfNeeded: sample >> 8)]
      }
    }
    return bytes
  }

  /// In whole and in pieces, both ways; the bytes on disk.
  @discardableResult
  private func roundTrip(_ bytes: [UInt8], _ note: Comment? = nil) throws -> Int {
    let digest = try store.put(bytes)
    #expect(digest == Digest(of: bytes), note)
    #expect(try store.get(digest, size: bytes.count) == bytes, note)
    let size = store.diskSize(digest)
    store.remove(digest)
    try folder.write("in", Data(bytes))
    #expect(try store.put(contentsOf: folder.path + "/in").digest == digest, note)
    #expect(store.diskSize(digest) == size, "the same file either way")
    try store.materialise(digest, size: bytes.count, at: folder.path + "/out")
    #expect(folder.read("out") == Data(bytes), note)
    store.remove(digest)
    return size
  }

  @Test(arguments: [1, 2, 3, 6, 8, 9], [16, 24])
  func soundIsPackedWell(_ channels: Int, _ bits: Int) throws {
    let bytes = CodecTests.wave(channels: channels, bits: bits, frames: 40_001, seed: 1)
    let size = try roundTrip(bytes)
    // The wave takes nothing, the noise its 9 or 17 bits; nine channels are not told apart.
    let noise = Double(bits) - 6
    if channels <= 8 { #expect(Double(size) < Double(bytes.count) * (noise + 0.9) / Double(bits)) }
  }

  /// Two tones that no polynomial follows, and noise of 5 bits: linear prediction leaves little more than the noise.
  @Test(arguments: [1, 2, 5])
  func tonesArePredicted(_ channels: Int) throws {
    var random = Philox(seed: 8, label: "tones")
    let bytes = CodecTests.sound(channels: channels, frames: 60_000) { frame, channel in
      let tones = [0.9, 1.7].map { sin(Double(frame) * $0 * (1 + 0.01 * Double(channel))) * 8000 }
      return Int(tones.reduce(0, +)) + Int(random.next() % 32)
    }
    #expect(try roundTrip(bytes) < bytes.count * 7 / 16)
  }

  /// Samples at the edges of what there is, in lengths at the edges of blocks, lanes and pieces, with a torn frame.
  @Test(arguments: [8191, 8192, 8193, 16_383, 16_384, 16_449, 33_000], 1...8)
  func extremesComeBack(_ frames: Int, _ channels: Int) throws {
    var random = Philox(seed: UInt64(frames), label: "extremes")
    let kinds: [(String, (Int, Int) -> Int)] = [
      ("silence", { _, _ in 0 }), ("least", { _, _ in -32768 }), ("most", { _, _ in 32767 }),
      ("square", { frame, channel in (frame >> (3 + channel)) & 1 == 0 ? 32767 : -32768 }),
      ("alternating", { frame, channel in (frame + channel) & 1 == 0 ? 32767 : -32768 }),
      ("impulses", { frame, _ in frame % 1021 == 0 ? -32768 : 0 }),
      ("loud tone", { frame, channel in Int(sin(Double(frame) * 0.01 * Double(channel + 1)) * 32767) }),
      ("steps", { frame, _ in (frame / 3000 % 7 - 3) << 12 }),
      ("opposite", { frame, channel in (channel == 0 ? 1 : -1) * Int(sin(Double(frame)) * 32767) }),
      ("noise", { _, _ in Int(Int16(truncatingIfNeeded: random.next())) }),
      (
        "noise after silence",
        { frame, _ in frame < frames * 2 / 3 ? 0 : Int(Int16(truncatingIfNeeded: random.next())) }
      ),
    ]
    for (name, value) in kinds.dropFirst(channels % 2) {
      let bytes = CodecTests.sound(channels: channels, frames: frames, value)
      let torn = [UInt8](repeating: 5, count: channels * 2 - 1)
      try roundTrip(bytes + torn, "\(name), \(frames) frames, \(channels) channels")
    }
  }

  @Test func headersOfAllKindsAreUnderstood() throws {
    let plain = try roundTrip(CodecTests.wave(channels: 2, bits: 16, frames: 9000, seed: 2))
    let odd = Array("LIST".utf8) + [3, 0, 0, 0, 1, 2, 3, 0]
    for bytes in [
      CodecTests.wave(channels: 2, bits: 16, frames: 9000, seed: 2, tag: 0xFFFE),
      CodecTests.wave(channels: 2, bits: 16, frames: 9000, seed: 2, before: odd),
      CodecTests.wave(channels: 2, bits: 16, frames: 9000, seed: 2, claimed: 0),
      CodecTests.wave(channels: 2, bits: 16, frames: 9000, seed: 2, claimed: 0xFFFF_FFFF),
    ] { #expect(try roundTrip(bytes) < plain + 200) }
    // Zero bits at the low end cost nothing.
    let padded = CodecTests.wave(channels: 1, bits: 24, frames: 8000, seed: 3, shift: 8)
    let narrow = CodecTests.wave(channels: 1, bits: 16, frames: 8000, seed: 3)
    #expect(abs(try roundTrip(padded) - roundTrip(narrow)) < 500)
    let coarse = CodecTests.wave(channels: 1, bits: 16, frames: 30_000, seed: 3, shift: 5)
    #expect(
      try roundTrip(coarse) < roundTrip(CodecTests.wave(channels: 1, bits: 16, frames: 30_000, seed: 3)) * 2
        / 3)
  }

  @Test func lyingHeadersLoseNothing() throws {
    let whole = CodecTests.wave(channels: 2, bits: 16, frames: 5000, seed: 4)
    for cut in [0, 1, 3, 11, 12, 20, 35, 43, 44, 45, 46, 47, 1001] {
      try roundTrip(Array(whole.prefix(cut)), "cut \(cut)")
    }
    for (at, value) in [
      (16, 15), (16, 0xFF), (20, 3), (22, 0), (22, 200), (32, 0), (32, 3), (34, 7), (40, 0xFF), (43, 0x7F),
      (4, 0),
    ] {
      var bytes = whole
      bytes[at] = UInt8(value)
      try roundTrip(bytes, "byte \(at) = \(value)")
    }
    try roundTrip(CodecTests.wave(channels: 2, bits: 16, frames: 5000, seed: 4, claimed: 1001) + [1, 2, 3])
    try roundTrip(
      CodecTests.wave(channels: 6, bits: 24, frames: 70_000, seed: 5) + [UInt8](repeating: 9, count: 77))
  }

  /// Random samples, full scale, of every number of bytes near the edges of blocks and pieces.
  @Test(arguments: [0, 1, 2, 5, 4095 * 4, 4096 * 4 + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 45, 2_500_003])
  func noiseComesBack(_ count: Int) throws {
    var random = Philox(seed: UInt64(count), label: "noise")
    let noise = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    let head = CodecTests.wave(channels: 2, bits: 16, frames: 0, seed: 0, claimed: count)
    // What doesn't get smaller is kept as it is, with twenty bytes more and eight for each piece.
    #expect(try roundTrip(noise) <= count + 12 + 8 * (count / (1 << 20) + 1))
    try roundTrip(head + noise)
  }

  @Test(arguments: 0..<60)
  func anythingComesBack(_ seed: Int) throws {
    var random = Philox(seed: UInt64(seed), label: "anything")
    func below(_ n: Int) -> Int { Int(random.next() % UInt64(n)) }
    var bytes = CodecTests.wave(
      channels: 1 + below(8), bits: [16, 24][below(2)], frames: below(12_000), seed: UInt64(seed),
      tag: [1, 0xFFFE][below(2)], shift: below(9))
    for _ in 0..<below(4) where bytes.count > 60 {
      let at = 44 + below(bytes.count - 44)
      switch below(4) {
      case 0: bytes.removeSubrange(at...)
      case 1: bytes[at] = UInt8(below(256))
      case 2: bytes[below(44)] = UInt8(below(256))
      default:
        for i in at..<min(bytes.count, at + below(9000)) {
          bytes[i] = below(2) == 0 ? 0x80 : UInt8(below(256))
        }
      }
    }
    try roundTrip(bytes, "seed \(seed)")
  }

  @Test func tensorsAreShuffledAndTextIsNot() throws {
    var random = Philox(seed: 6, label: "weights")
    let floats = (0..<60_000).map { _ in Float(Int(random.next() % 2001) - 1000) / 37000 }
    let weights = floats.withUnsafeBytes { Array($0) }
    #expect(try roundTrip(weights) < weights.count * 85 / 100)
    let text = Array((0..<3000).map { "line \($0) of a text, much like the others\n" }.joined().utf8)
    #expect(try roundTrip(text) < text.count / 8)
  }

  @Test func objectsOfOlderStoresAreRead() throws {
    // One zstd frame with its size, as written before: "flow" 64 times.
    let frame: [UInt8] = [
      0x28, 0xB5, 0x2F, 0xFD, 0x64, 0x00, 0x00, 0x5D, 0x00, 0x00, 0x20, 0x66, 0x6C, 0x6F, 0x77, 0x01, 0x00,
      0xF9, 0x29, 0x47, 0x04, 0x86, 0x31, 0x08, 0x69,
    ]
    let bytes = Array(String(repeating: "flow", count: 64).utf8)
    let digest = Digest(of: bytes)
    try store.publish(frame, at: store.path(of: digest))
    #expect(try store.get(digest) == bytes)
    try store.materialise(digest, at: folder.path + "/old")
    #expect(folder.read("old") == Data(bytes))
    #expect(throws: StoreError.missing(digest)) { try store.get(digest, size: 10) }
  }

  /// Objects as they were written once, one in each way of packing sound, with the digest of what they hold.
  @Test(arguments: [
    ("polynomials", "4cee13ffbeb8faddf21fd3059e8848be8340309a1341abdd6867461be5b849ef"),
    ("lanes", "d610134e045d1699e63885ad4826462d28079862a977f7fc75f4a2c1212a2767"),
  ])
  func soundOfOlderStoresIsRead(_ name: String, _ hex: String) throws {
    let file = Golden.repository.appendingPathComponent("Tests/Golden/store/\(name).flw")
    let digest = try #require(Digest(hex: hex))
    try store.publish([UInt8](Data(contentsOf: file)), at: store.path(of: digest))
    #expect(try Digest(of: store.get(digest)) == digest)
  }

  /// Any flipped bit, cut or lying length gives "damaged" in both ways of reading, and no more room than was agreed.
  @Test(arguments: 0..<200)
  func hostileObjectsAreDamaged(_ seed: Int) throws {
    var random = Philox(seed: UInt64(seed), label: "hostile")
    func below(_ n: Int) -> Int { Int(random.next() % UInt64(n)) }
    let frames = seed % 4 == 0 ? 9000 : 3000
    let bytes = CodecTests.wave(
      channels: 1 + seed % 3, bits: seed % 2 == 0 ? 16 : 24, frames: frames, seed: 7)
    let digest = try store.put(bytes)
    var file = try #require(FileManager.default.contents(atPath: store.path(of: digest)))
    switch seed % 5 {
    case 0: file.removeSubrange(below(file.count)...)
    case 1: for i in 0..<8 where i < 4 { file[4 + i] = UInt8(below(256)) }
    case 2: for i in 12..<20 { file[i] = UInt8(below(256)) }
    case 3: file.append(contentsOf: file.suffix(below(200) + 1))
    default: file[below(file.count)] ^= UInt8(1 << below(8))
    }
    guard file != FileManager.default.contents(atPath: store.path(of: digest)) else { return }
    for isWhole in [true, false] {
      try store.publish(Array(file), at: store.path(of: digest))
      #expect(throws: StoreError.missing(digest), "seed \(seed)") {
        if isWhole {
          _ = try store.get(digest, size: bytes.count)
        } else {
          try store.materialise(digest, size: bytes.count, at: folder.path + "/bad")
        }
      }
      #expect(!store.contains(digest) && folder.read("bad") == nil)
    }
    let kept = try FileManager.default.contentsOfDirectory(atPath: store.root + "/quarantine")
    #expect(kept.count == 2)
  }
}
