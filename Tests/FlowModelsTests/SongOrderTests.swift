import FlowCore
import FlowNN
import Testing

@testable import FlowModels

/// The order of songs over random sizes, weights and seeds.
@Suite struct SongOrderTests {
  private struct Case {
    var songs: [(index: Int, set: Int)]
    var weights: [Double]
    var seed: UInt64
    var order: SongOrder { get throws { try SongOrder(songs, weights: weights, seed: seed) } }
  }

  private func cases(_ count: Int) -> [Case] {
    (0..<count).map { number in
      var random = Philox(seed: UInt64(number), label: "song order case")
      let sets = 1 + Int(random.uniform() * 4)
      var songs: [(index: Int, set: Int)] = []
      for set in 0..<sets {
        for _ in 0...Int(random.uniform() * 12) { songs.append((songs.count * 3 + 1, set)) }
      }
      let weights = (0..<sets).map { $0 == 0 || random.uniform() < 0.8 ? random.uniform() + 0.01 : 0 }
      return Case(songs: songs.shuffled(using: &random), weights: weights, seed: random.next())
    }
  }

  @Test func withoutWeightsEachEpochHasEachSongOnce() throws {
    var orders: Set<[Int]> = []
    for var one in cases(40) {
      one.weights = []
      let (order, count) = (try one.order, one.songs.count)
      for epoch in 0..<5 {
        let songs = order.songs(epoch * count..<(epoch + 1) * count)
        #expect(songs.sorted() == one.songs.map(\.index).sorted())
        if count > 8 { #expect(orders.insert(songs).inserted, "two epochs in one order") }
      }
    }
  }

  /// Whatever was asked before, and however many at once.
  @Test func theOrderIsAFunctionOfSeedAndNumber() throws {
    for one in cases(40) {
      let whole = try one.order.songs(0..<90)
      var random = Philox(seed: one.seed)
      for _ in 0..<12 {
        let from = Int(random.uniform() * 80)
        let to = from + Int(random.uniform() * Double(90 - from))
        #expect(try one.order.songs(from..<to) == Array(whole[from..<to]))
      }
      var other = one
      other.seed &+= 1
      if one.songs.count > 8 { #expect(try other.order.songs(0..<90) != whole) }
    }
  }

  @Test func dataSetsHaveTheirSharesAndPassThroughTheirSongs() throws {
    for one in cases(60) {
      let (order, count, sum) = (try one.order, one.songs.count, one.weights.reduce(0, +))
      let set = Dictionary(uniqueKeysWithValues: one.songs.map { ($0.index, $0.set) })
      var drawn: [Int: Int] = [:]
      for epoch in 0..<40 {
        var counts = [Int](repeating: 0, count: one.weights.count)
        for song in order.songs(epoch * count..<(epoch + 1) * count) {
          counts[set[song] ?? 0] += 1
          drawn[song, default: 0] += 1
        }
        for (found, weight) in zip(counts, one.weights) {
          #expect(abs(Double(found) - weight / sum * Double(count)) < 1 + 1e-9)
          if weight == 0 { #expect(found == 0) }
        }
      }
      // Within a data set, songs are drawn equally often, but for what epochs round.
      for (number, weight) in one.weights.enumerated() where weight > 0 {
        let own = one.songs.filter { $0.set == number }
        let times = own.map { Double(drawn[$0.index] ?? 0) }
        let expected = 40 * Double(count) * weight / sum / Double(own.count)
        for time in times { #expect(abs(time - expected) <= max(3, 0.35 * expected), "\(times)") }
      }
    }
  }

  @Test func dataSetsWithoutSongsAreNamed() {
    func refusal(_ weights: [Double]) -> String {
      do { _ = try SongOrder([(0, 0), (1, 2)], weights: weights, seed: 0) } catch { return "\(error)" }
      return ""
    }
    #expect(refusal([0.5, 0.3, 0.2]) == "data set 2 of 3 has the weight 0.3, and no song to train on")
    #expect(refusal([0.5, 0, 0.2]) == "")
    #expect(refusal([0, 0, 0]).contains("at least one must be above 0"))
    #expect(refusal([1, -1, 1]).contains("at least one must be above 0"))
    #expect(refusal([1, .nan, 1]).contains("not shares"))
  }
}
