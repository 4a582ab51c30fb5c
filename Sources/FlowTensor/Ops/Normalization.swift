extension Tensor {
  /// Layer normalisation over the last axis (Ba et al. 2016), times `weight` [width] and plus `bias` [width].
  public func layerNorm(_ weight: Tensor, _ bias: Tensor? = nil, epsilon: Float = 1e-5)
    throws(TensorError) -> Tensor
  {
    let y = try layerNorm(epsilon: epsilon) * weight
    return if let bias { try y + bias } else { y }
  }

  /// Group normalisation (Wu & He 2018): this [B, C, ...] has mean 0 and variance 1 over each of `groups` runs of
  /// channels, then each channel is scaled by `weight` [C] and moved by `bias` [C].
  public func groupNorm(
    _ groups: Int, _ weight: Tensor? = nil, _ bias: Tensor? = nil, epsilon: Float = 1e-5
  ) throws(TensorError) -> Tensor {
    try require(
      rank >= 2 && groups > 0 && shape[1] % groups == 0, "group norm",
      "its channels are \(groups) equal groups")
    let y = try reshaped([shape[0], groups, Array(shape[1...]).elements / groups]).layerNorm(epsilon: epsilon)
    return try y.reshaped(shape).perChannel(weight, bias, "group norm")
  }

  /// Instance normalisation (Ulyanov et al. 2016): group normalisation with a group per channel.
  public func instanceNorm(_ weight: Tensor? = nil, _ bias: Tensor? = nil, epsilon: Float = 1e-5)
    throws(TensorError) -> Tensor
  {
    try require(rank >= 2, "instance norm", "it is [B, C, ...]")
    return try groupNorm(shape[1], weight, bias, epsilon: epsilon)
  }

  /// Batch normalisation (Ioffe & Szegedy 2015) with known statistics, as in inference: this [B, C, ...], all others [C].
  public func batchNorm(
    mean: Tensor, variance: Tensor, _ weight: Tensor? = nil, _ bias: Tensor? = nil, epsilon: Float = 1e-5
  ) throws(TensorError) -> Tensor {
    let inverse = try (variance + epsilon).rsqrt()
    let scale = if let weight { try inverse * weight } else { inverse }
    let offset = if let bias { try bias - mean * scale } else { try -(mean * scale) }
    return try perChannel(scale, offset, "batch norm")
  }

  /// Times `weight` and plus `bias`, each [C], for this [B, C, ...].
  private func perChannel(_ weight: Tensor?, _ bias: Tensor?, _ op: String) throws(TensorError) -> Tensor {
    var result = self
    for (vector, isWeight) in [(weight, true), (bias, false)] {
      guard let vector else { continue }
      try require(
        rank >= 2 && vector.shape == [shape[1]], op, "it has a number per channel", others: [vector.shape])
      let column = try vector.reshaped([shape[1]] + [Int](repeating: 1, count: rank - 2))
      result = isWeight ? try result * column : try result + column
    }
    return result
  }
}
