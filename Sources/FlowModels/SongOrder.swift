import FlowCore
import FlowNN

/// Which song a training draws when: a pure function of the seed and the number of the draw, so that a training that was put
/// down goes on as if it had not been. An epoch is as many draws as there are songs. Without weights each song comes once in
/// it, shuffled anew; with weights each data set gets its share of the epoch to within one draw, and takes it from passes
/// through its songs, each shuffled anew, that go on from epoch to epoch.
struct SongOrder: Sendable {
  private let seed: UInt64
  /// The songs of each data set, and its share of all draws.
  private let sets: [(songs: [Int], share: Double)]
  /// Draws of an epoch.
  let epoch: Int

  /// - Parameters:
  ///   - songs: the data set of each song, by the song's index.
  ///   - weights: of the data sets, in their order; none: each song is as likely as any other.
  /// - Throws: `TrainingError.data` when a data set with a weight has no song, or no weight is above 0.
  init(_ songs: [(index: Int, set: Int)], weights: [Double], seed: UInt64) throws(TrainingError) {
    self.seed = seed
    epoch = songs.count
    guard !songs.isEmpty else { throw .data("there is no song to train on") }
    guard !weights.isEmpty else {
      sets = [(songs.map(\.index), 1)]
      return
    }
    let sum = weights.reduce(0, +)
    guard sum > 0, sum.isFinite, weights.allSatisfy({ $0 >= 0 }) else {
      throw .data("the weights \(weights) of the data sets are not shares; at least one must be above 0")
    }
    var sets: [(songs: [Int], share: Double)] = []
    for (set, weight) in weights.enumerated() where weight > 0 {
      let own = songs.filter { $0.set == set }.map(\.index)
      guard !own.isEmpty else {
        throw .data(
          "data set \(set + 1) of \(weights.count) has the weight \(weight), and no song to train on")
      }
      sets.append((own, weight / sum))
    }
    self.sets = sets
  }

  /// The songs of the draws `numbers`.
  func songs(_ numbers: Range<Int>) -> [Int] {
    var (result, known): ([Int], (epoch: Int, songs: [Int])) = ([], (-1, []))
    for number in numbers {
      if number / epoch != known.epoch { known = (number / epoch, songs(epoch: number / epoch)) }
      result.append(known.songs[number % epoch])
    }
    return result
  }

  /// The songs of an epoch, in order.
  private func songs(epoch number: Int) -> [Int] {
    var random = Philox(seed: seed, label: "epoch \(number)")
    // Evenly spaced places on the line of shares, moved by one draw of the epoch: each data set has its share, rounded up or down.
    let shift = random.uniform()
    var counts = [Int](repeating: 0, count: sets.count)
    var (set, bound) = (0, sets[0].share)
    for place in 0..<epoch {
      while (Double(place) + shift) / Double(epoch) >= bound, set + 1 < sets.count {
        set += 1
        bound += sets[set].share
      }
      counts[set] += 1
    }
    var result: [Int] = []
    for (set, count) in zip(sets.indices, counts) {
      let size = sets[set].songs.count
      // Where this data set's passes are by now, whatever earlier epochs rounded to.
      let start = Int(Double(number) * Double(epoch) * sets[set].share)
      var pass: (number: Int, songs: [Int]) = (-1, [])
      for place in start..<start + count {
        if place / size != pass.number {
          var order = Philox(seed: seed, label: "data set \(set) pass \(place / size)")
          pass = (place / size, sets[set].songs.shuffled(using: &order))
        }
        result.append(pass.songs[place % size])
      }
    }
    return result.shuffled(using: &random)
  }
}
