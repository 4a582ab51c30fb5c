import FlowCore
import FlowNN

/// The part of each batch that is this rank's: equally many rows for every rank, in order.
struct BatchPart: Sendable, Hashable {
  /// Indices into the whole batch.
  let rows: Range<Int>

  /// This rank's part of a batch of `count` rows.
  /// - Throws: `TrainingError.data` when the ranks don't divide it.
  init(of count: Int, _ ranks: any Communicator) throws(TrainingError) {
    guard count > 0, count % ranks.size == 0 else {
      throw .data("a batch of \(count) can't be shared by \(ranks.size) ranks; they must divide it")
    }
    let size = count / ranks.size
    rows = ranks.rank * size..<(ranks.rank + 1) * size
  }
}
