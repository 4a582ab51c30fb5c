public import FlowNN
public import FlowTensor

/// The sizes of the encoder that is trained beside the vocoder (DiffRhythm 2 published none, spec 7).
public struct LatentEncoderConfig: Sendable, Hashable, Codable {
  /// Strides of the convolutions; their product is samples per latent frame.
  public var strides: [Int]
  /// Channels after each of them.
  public var channels: [Int]
  /// Latent channels.
  public var latentChannels: Int

  /// An encoder of these sizes.
  public init(strides: [Int], channels: [Int], latentChannels: Int = 64) {
    self.strides = strides
    self.channels = channels
    self.latentChannels = latentChannels
  }

  /// The mirror of `VocoderConfig.tiny`.
  public static let tiny = LatentEncoderConfig(strides: [6, 8, 10, 10], channels: [24, 48, 96, 128])

  /// Samples per latent frame.
  public var hop: Int { strides.reduce(1, *) }
}

/// A convolutional encoder: wave [B, 1, T·hop] -> latents [B, channels, T]. Strided convolutions mirror the decoder's
/// transposed ones, with snake activations (x + sin²(ax)/a, logarithmic a) between them. Latents are bounded smoothly to
/// ±`bound`, so that one loud outlier can't stretch the space the transformer learns.
public struct LatentEncoder {
  /// The largest magnitude of a latent.
  public static let bound: Float = 4
  /// The sizes.
  public let config: LatentEncoderConfig
  private let scope: ParameterScope

  /// The encoder whose parameters are under `scope`.
  public init(_ config: LatentEncoderConfig, _ scope: ParameterScope) {
    self.config = config
    self.scope = scope
  }

  private func snake(_ x: Tensor, _ scope: ParameterScope) throws(TensorError) -> Tensor {
    let channels = x.shape[1]
    let a = try scope.parameter("alpha", [channels], .zeros).exp().reshaped([channels, 1])
    return try x + (x * a).sin().square() / a
  }

  /// The latents of a wave [B, 1, T·hop].
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> Tensor {
    guard config.strides.count == config.channels.count, config.strides.allSatisfy({ $0 > 0 }) else {
      throw .argument(op: "encoder", problem: "each stride is positive and has a width", path: scope.prefix)
    }
    // Music has an RMS near 0.1; the layers are made for 1.
    var x = try wave * 10
    var width = 1
    for (i, (stride, channels)) in zip(config.strides, config.channels).enumerated() {
      let taps = 2 * stride + stride % 2
      let part = scope["downs"][i]
      let weight = try part.parameter(
        "weight", [channels, width, taps], .normal(1.4 / Float(width * taps).squareRoot()))
      let bias = try part.parameter("bias", [channels], .fanIn(width * taps))
      x = try part.record { () throws(TensorError) in
        try x.conv1d(weight, bias, stride: stride, padding: (taps - stride) / 2)
      }
      let activation = scope["activations"][i]
      x = try activation.record { () throws(TensorError) in try snake(x, activation) }
      width = channels
    }
    let post = scope["conv_post"]
    let weight = try post.parameter(
      "weight", [config.latentChannels, width, 3], .normal(1 / Float(width * 3).squareRoot()))
    return try post.record { () throws(TensorError) in
      x = try x.conv1d(weight, post.parameter("bias", [config.latentChannels], .zeros), padding: 1)
      return try (x * (1 / LatentEncoder.bound)).tanh() * LatentEncoder.bound
    }
  }
}
