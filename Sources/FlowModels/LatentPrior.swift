import FlowCore
import FlowNN
import FlowTensor

/// The pull of latents [B, channels, T] to mean 0 and variance 1 per channel, over a whole batch.
struct LatentPrior {
  private static let mean = "latent mean", square = "latent square"

  /// Of a batch that is all here.
  static func loss(_ latents: Tensor) throws(TensorError) -> Tensor {
    let mean = try latents.mean([0, 2])
    let variance = try latents.square().mean([0, 2])
    return try (mean.square() + (variance - 1).square()).mean().reshaped([])
  }

  /// This rank's part of that of a batch whose moments are inputs: linear in its own moments m and v, tangent to m² + (v - 1)²
  /// at the batch's M and V. So its mean over the ranks has the value and the gradient of the whole,
  /// 2Mm + 2(V - 1)v - M² - V² + 1.
  static func share(_ latents: Tensor) throws(TensorError) -> Tensor {
    let (graph, channels) = (latents.graph, latents.shape[1])
    let own = try (mean: latents.mean([0, 2]), square: latents.square().mean([0, 2]))
    let mean = try graph.input(LatentPrior.mean, [channels]).reshaped(own.mean.shape)
    let square = try graph.input(LatentPrior.square, [channels]).reshaped(own.mean.shape)
    let slope = try mean * own.mean * 2 + (square - 1) * own.square * 2
    return try (slope - mean.square() - square.square() + 1).mean().reshaped([])
  }

  /// What the inputs of `share` come from.
  private let moments: Program
  private let ranks: any Communicator

  /// Takes the moments of the latents that `encoder` records, with the parameters in `store`.
  /// - Throws: `TensorError`.
  init(_ graph: Graph, latents: Tensor, store: ParameterStore, ranks: any Communicator) throws {
    let channels = latents.shape[1]
    moments = try Program(
      graph,
      outputs: [
        LatentPrior.mean: latents.mean([0, 2]).reshaped([channels]),
        LatentPrior.square: latents.square().mean([0, 2]).reshaped([channels]),
      ], parameters: store)
    self.ranks = ranks
  }

  /// The inputs of `share` for a batch of which each rank has as much.
  /// - Throws: `TensorError`, and what the ranks throw.
  func inputs(_ batch: [String: HostTensor]) throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for (name, own) in try moments.run(batch).sorted(by: { $0.key < $1.key }) {
      var values = own.floats
      try ranks.sum(&values)
      result[name] = try HostTensor(values.map { $0 / Float(ranks.size) }, own.shape)
    }
    return result
  }
}
