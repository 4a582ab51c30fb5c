import FlowCore
import FlowTensor

/// Gradients that are added up over ranks: they lie one after the other in one buffer, which travels in pieces.
struct GradientExchange {
  /// Elements that travel at once, 16 MiB.
  private static let piece = 1 << 22
  /// The name of the buffer in the store, which may hold those of other steps.
  private let block: String
  private let store: ParameterStore
  private let ranks: any Communicator

  /// Makes the buffer of the gradients called `prefix` and a parameter's name, and gives all ranks rank 0's parameters:
  /// drawn numbers may differ in the last digit between machines.
  /// - Throws: `TensorError`, and what the ranks throw.
  init(
    _ parameters: [ParameterList.Declaration], prefix: String, store: ParameterStore, ranks: any Communicator
  ) throws {
    self.store = store
    self.ranks = ranks
    block = "\(prefix)of \(parameters.first?.name ?? "nothing")"
    try store.make(
      block: block, of: parameters.map { (prefix + $0.name, $0.tensor.shape) })
    for parameter in parameters {
      try store.update(parameter.name, piece: GradientExchange.piece) { values in
        let bytes = try ranks.broadcast(values.withUnsafeBytes { Array($0) })
        values.withUnsafeMutableBytes { $0.copyBytes(from: bytes.prefix($0.count)) }
      }
    }
  }

  /// Replaces every gradient by its sum over the ranks.
  /// - Throws: what the ranks throw.
  func sum() throws {
    try store.update(block, piece: GradientExchange.piece) { try ranks.sum(&$0) }
  }
}
