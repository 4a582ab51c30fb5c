import FlowCore
import Testing

@Suite struct PhiloxTests {
  /// The known answers of `philox4x32` with 10 rounds that the Random123 distribution carries (`kat_vectors`).
  @Test(
    arguments: [
      (
        [0, 0, 0, 0], [0, 0],
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
      ),
      (
        [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
      ),
      (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
      ),
    ] as [([UInt32], [UInt32], [UInt32])])
  func knownAnswers(counter: [UInt32], key: [UInt32], words: [UInt32]) {
    let block = Philox.block(key: (key[0], key[1]), counter: (counter[0], counter[1], counter[2], counter[3]))
    #expect([block.0, block.1, block.2, block.3] == words)
  }

  /// The layout is part of every seeded result: seed in the key, position and stream in the counter, low word first.
  @Test func wordsFollowTheDocumentedLayout() {
    let seed: UInt64 = 0x1111_2222_3333_4444
    let stream: UInt64 = 0x5555_6666_7777_8888
    var random = Philox(seed: seed, stream: stream)
    for position in 0..<3 as Range<UInt32> {
      let block = Philox.block(
        key: (0x3333_4444, 0x1111_2222), counter: (position, 0, 0x7777_8888, 0x5555_6666))
      #expect(
        [random.word(), random.word(), random.word(), random.word()] == [block.0, block.1, block.2, block.3])
    }
    var words = Philox(seed: seed, stream: stream)
    var pairs = Philox(seed: seed, stream: stream)
    let (low, high) = (words.word(), words.word())
    #expect(pairs.next() == UInt64(low) | UInt64(high) << 32)
  }

  @Test func labelsSeedsAndStreamsAreApart() {
    func first(_ random: Philox) -> UInt64 {
      var random = random
      return random.next()
    }
    let draws = [
      first(Philox(seed: 1)), first(Philox(seed: 2)), first(Philox(seed: 1 << 32)),
      first(Philox(seed: 1, stream: 1)),
      first(Philox(seed: 1, stream: 1 << 32)), first(Philox(seed: 1, label: "a")),
      first(Philox(seed: 1, label: "b")),
    ]
    #expect(Set(draws).count == draws.count)
    #expect(first(Philox(seed: 1, label: "a")) == first(Philox(seed: 1, label: "a")))
  }

  /// Means and variances within 5 standard errors of the true ones.
  @Test func momentsOfUniformAndNormal() {
    let count = 100_000
    let n = Double(count)
    var random = Philox(seed: 7)
    let uniform = (0..<count).map { _ in random.uniform() }
    #expect(uniform.allSatisfy { (0..<1).contains($0) })
    #expect(abs(uniform.reduce(0, +) / n - 0.5) < 5 * (1 / (12 * n)).squareRoot())
    let normal = (0..<count).map { _ in random.normal() }
    let mean = normal.reduce(0, +) / n
    let variance = normal.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
    let fourth = normal.reduce(0) { $0 + $1 * $1 * $1 * $1 } / n
    #expect(abs(mean) < 5 / n.squareRoot())
    #expect(abs(variance - 1) < 5 * (2 / n).squareRoot())
    #expect(abs(fourth - 3) < 5 * (96 / n).squareRoot())
    let ranged = (0..<1000).map { _ in random.uniform(-3...5) }
    #expect(ranged.allSatisfy { (-3...5).contains($0) })
    #expect((ranged.min() ?? 0) < -2.9 && (ranged.max() ?? 0) > 4.9)
  }
}
