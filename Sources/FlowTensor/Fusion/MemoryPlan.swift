/// Where the values of a schedule lie: each in a stretch of the arena that nothing else uses while it lives.
struct MemoryPlan {
  /// Memory that one value or several, one after another, occupy.
  private struct Storage {
    let count: Int
    let first: Int
    var last: Int
    var offset = 0
  }

  private var storages: [Storage] = []
  private var place: [Value: Int] = [:]
  /// 4-byte words of the arena.
  private(set) var count = 0

  /// The offset of a value in the arena; `nil` for one that is not an op's.
  func offset(_ value: Value) -> Int? { place[value].map { storages[$0].offset } }

  /// - Parameters:
  ///   - kept: values read after the last unit.
  ///   - targets: values that are computed in other memory than the arena.
  init(_ units: [Unit], kept: Set<Value>, targets: Set<Value>) {
    var lastUse: [Value: Int] = [:]
    for (position, unit) in units.enumerated() {
      for input in unit.inputs { lastUse[input.value] = position }
    }
    for value in kept { lastUse[value] = units.count }
    for (position, unit) in units.enumerated() {
      for (index, output) in unit.outputs.enumerated() where !targets.contains(output.value) {
        let last = lastUse[output.value] ?? position
        let count = output.dtype.words(output.shape.elements)
        let reused = unit.op.inPlaceInputs(ofOutput: index).first { candidate in
          let input = unit.inputs[candidate]
          guard let at = place[input.value], storages[at].last == position, input.dtype == output.dtype,
            input.dtype.words(input.shape.elements) == count
          else { return false }
          // Another input in the same memory may be read in another order.
          return unit.inputs.indices.allSatisfy { $0 == candidate || place[unit.inputs[$0].value] != at }
        }
        if let reused, let at = place[unit.inputs[reused].value] {
          // Taken: no other output may have it, even if nothing reads this one.
          storages[at].last = max(position + 1, last)
          place[output.value] = at
        } else {
          storages.append(Storage(count: count, first: position, last: last))
          place[output.value] = storages.count - 1
        }
      }
    }
    assignOffsets()
  }

  /// The unit during which most is alive, and the values that are, with their 4-byte words.
  func fullest(_ units: [Unit]) -> (unit: Int, values: [Value: Int]) {
    var change = [Int](repeating: 0, count: units.count + 2)
    for storage in storages {
      change[storage.first] += storage.count
      change[min(storage.last, units.count) + 1] -= storage.count
    }
    var (sum, most, fullest) = (0, 0, 0)
    for unit in units.indices {
      sum += change[unit]
      if sum > most { (most, fullest) = (sum, unit) }
    }
    // Of values in one memory, the last to be written.
    var holder: [Int: Value] = [:]
    for unit in units.prefix(fullest + 1) {
      for output in unit.outputs { if let at = place[output.value] { holder[at] = output.value } }
    }
    var values: [Value: Int] = [:]
    for (at, value) in holder where storages[at].first <= fullest && storages[at].last >= fullest {
      values[value] = storages[at].count
    }
    return (fullest, values)
  }

  /// Gives every storage an offset, so that no two that live at once overlap. Two orders are tried, by time and by size
  /// (large ones first leave fewer gaps, Pisarchyk & Lee 2020); the smaller arena wins.
  private mutating func assignOffsets() {
    let byTime = storages.indices.sorted { (storages[$0].first, $0) < (storages[$1].first, $1) }
    let bySize = storages.indices.sorted { (storages[$1].count, $0) < (storages[$0].count, $1) }
    let plans = [byTime, bySize].map(offsets)
    guard let best = plans.min(by: { $0.size < $1.size }) else { return }
    for index in storages.indices { storages[index].offset = best.offsets[index] }
    count = best.size
  }

  private func offsets(_ order: [Int]) -> (offsets: [Int], size: Int) {
    var result = [Int](repeating: 0, count: storages.count)
    // Placed storages by offset.
    var placed: [(offset: Int, end: Int, first: Int, last: Int)] = []
    var size = 0
    for index in order {
      let storage = storages[index]
      let count = (storage.count + 15) / 16 * 16
      var best: (offset: Int, room: Int)?
      var cursor = 0
      for span in placed where span.first <= storage.last && span.last >= storage.first {
        let room = span.offset - cursor
        if room >= count, best.map({ room < $0.room }) ?? true { best = (cursor, room) }
        cursor = max(cursor, span.end)
      }
      let offset = best?.offset ?? cursor
      result[index] = offset
      let at = placed.firstIndex { $0.offset > offset } ?? placed.count
      placed.insert((offset, offset + count, storage.first, storage.last), at: at)
      size = max(size, offset + count)
    }
    return (result, size)
  }
}
