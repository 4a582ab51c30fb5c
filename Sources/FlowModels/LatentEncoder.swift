public import FlowNN
public import FlowTensor
import Foundation

/// The sizes of the encoder that is trained beside the vocoder (DiffRhythm 2 published none, spec 7).
public struct LatentEncoderConfig: Sendable, Hashable, Codable {
  /// Log mel magnitudes that the convolutions read instead of the wave: pitch and loudness without the phase, which a few
  /// small layers would have to learn to ignore.
  public struct Mel: Sendable, Hashable, Codable {
    /// Samples of a window.
    public var window: Int
    /// Samples between windows.
    public var hop: Int
    /// Mel bands.
    public var bands: Int
    /// Hz of the wave.
    public var samplingRate: Int

    /// A front end of these sizes.
    public init(window: Int, hop: Int, bands: Int, samplingRate: Int) {
      self.window = window
      self.hop = hop
      self.bands = bands
      self.samplingRate = samplingRate
    }

    enum CodingKeys: String, CodingKey {
      case window, hop, bands
      case samplingRate = "sampling_rate"
    }
  }

  /// Strides of the convolutions; their product is samples per latent frame.
  public var strides: [Int]
  /// Channels after each of them.
  public var channels: [Int]
  /// Latent channels.
  public var latentChannels: Int
  /// What stands before the convolutions; `nil`: they read the wave.
  public var mel: Mel?

  /// An encoder of these sizes.
  public init(strides: [Int], channels: [Int], latentChannels: Int = 64, mel: Mel? = nil) {
    self.mel = mel
    self.strides = strides
    self.channels = channels
    self.latentChannels = latentChannels
  }

  /// What stands beside `VocoderConfig.tiny`.
  public static let tiny = LatentEncoderConfig(
    strides: [1, 2, 5], channels: [96, 96, 128],
    mel: Mel(window: 2048, hop: 480, bands: 160, samplingRate: 24_000))

  /// An encoder for a decoder that has none: that of the tiny preset, with the decoder's rate, samples and channels per frame.
  public static func fitting(_ decoder: VocoderConfig) -> LatentEncoderConfig {
    var config = tiny
    let steps = config.strides.reduce(1, *)
    if decoder.hop % steps != 0 { config.strides = config.strides.map { _ in 1 } }
    let hop = decoder.hop / config.strides.reduce(1, *)
    var window = 64
    while window < 4 * hop { window *= 2 }
    config.latentChannels = decoder.inChannels
    config.mel = Mel(
      window: window, hop: hop, bands: min(160, window / 4), samplingRate: decoder.samplingRate)
    return config
  }

  /// Samples per latent frame.
  public var hop: Int { strides.reduce(mel?.hop ?? 1, *) }
}

/// A convolutional encoder: wave [B, 1, T·hop] -> latents [B, channels, T]. Strided convolutions over the wave, or over its log
/// mel magnitudes, with snake activations (x + sin²(ax)/a, logarithmic a) between them. Latents are bounded smoothly to
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

  /// What the convolutions read, [B, width, n], near unit scale.
  private func front(_ wave: Tensor) throws(TensorError) -> (Tensor, width: Int) {
    // Music has an RMS near 0.1.
    guard let mel = config.mel else { return (try wave * 10, 1) }
    guard mel.hop > 0, mel.window >= mel.hop, mel.bands > 0, mel.samplingRate > 0 else {
      throw .argument(
        op: "encoder", problem: "a mel window is at least as long as its hop", path: scope.prefix)
    }
    let (before, graph) = ((mel.window - mel.hop) / 2, wave.graph)
    let padded = try wave.reshaped([wave.shape[0], wave.shape[2]])
      .padded(axis: 1, before: before, after: mel.window - mel.hop - before)
    let magnitudes = try MelLoss.magnitudes(
      padded, FrameShape(size: mel.window, hop: mel.hop), samplingRate: mel.samplingRate, bands: mel.bands)
    let logarithms = try magnitudes.maximum(graph.constant(1e-3)).log() * Float(1 / log(10.0)) + 1
    return (try logarithms.permuted([0, 2, 1]), mel.bands)
  }

  /// The latents of a wave [B, 1, T·hop].
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> Tensor {
    guard config.strides.count == config.channels.count, config.strides.allSatisfy({ $0 > 0 }) else {
      throw .argument(op: "encoder", problem: "each stride is positive and has a width", path: scope.prefix)
    }
    var (x, width) = try front(wave)
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
