/// What a step must wait for: those before it that wrote what it reads, or read or wrote what it writes. Steps that don't
/// touch each other's memory may run at once.
struct StepOrder {
  private struct Access {
    let range: Range<UInt64>
    let step: Int
    let isWrite: Bool
  }
  /// Those that a later step can still depend on.
  private var accesses: [Access] = []

  /// The steps that `step`, which comes after all before, must wait for, in order.
  mutating func add(_ step: Int, reads: [Range<UInt64>], writes: [Range<UInt64>]) -> [Int] {
    var found: Set<Int> = []
    for range in reads {
      for access in accesses where access.isWrite && access.range.overlaps(range) {
        found.insert(access.step)
      }
    }
    for range in writes where !range.isEmpty {
      accesses.removeAll { access in
        guard access.range.overlaps(range) else { return false }
        found.insert(access.step)
        // Who waits for this step waits for that one.
        return range.lowerBound <= access.range.lowerBound && access.range.upperBound <= range.upperBound
      }
    }
    found.remove(step)
    accesses += reads.map { Access(range: $0, step: step, isWrite: false) }
    accesses += writes.map { Access(range: $0, step: step, isWrite: true) }
    return found.sorted()
  }
}

/// Scratch memory of steps, taken round and round from one piece, so that steps that follow each other have their own.
struct ScratchRing {
  /// Bytes of the piece.
  let bytes: Int
  private var next = 0

  /// For steps that want `sizes` bytes.
  init(_ sizes: [Int]) {
    let whole = sizes.map(Self.whole)
    let most = whole.max() ?? 0
    bytes = min(most + Self.room, max(most, whole.reduce(0, +)))
  }

  /// Where the next step's `size` bytes begin.
  mutating func take(_ size: Int) -> Int {
    let whole = Self.whole(size)
    if next + whole > bytes { next = 0 }
    defer { next += whole }
    return next
  }

  /// Beyond what the step that wants most takes.
  private static let room = 256 << 20
  private static func whole(_ size: Int) -> Int { (size + 255) / 256 * 256 }
}
