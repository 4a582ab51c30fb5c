public import FlowNN
public import FlowTensor

/// The sizes of the discriminators of periods and of resolutions, by the names of BigVGAN's configuration.
public struct DiscriminatorConfig: Sendable, Hashable, Codable {
  /// Factor on the published numbers of channels.
  public var channelMultiplier: Double
  /// Periods, in samples.
  public var periods: [Int]
  /// Transform size, hop and window length of each resolution, in samples.
  public var resolutions: [[Int]]

  enum CodingKeys: String, CodingKey {
    case channelMultiplier = "discriminator_channel_mult"
    case periods = "mpd_reshapes"
    case resolutions
  }

  /// The published sizes unless said.
  public init(
    channelMultiplier: Double = 1, periods: [Int] = [2, 3, 5, 7, 11],
    resolutions: [[Int]] = [[1024, 120, 600], [2048, 240, 1200], [512, 50, 240]]
  ) {
    self.channelMultiplier = channelMultiplier
    self.periods = periods
    self.resolutions = resolutions
  }

  /// `channels`, scaled.
  func channels(_ channels: Int) -> Int { max(1, Int(Double(channels) * channelMultiplier)) }
}

/// The multi-period discriminator of HiFi-GAN (Kong et al. 2020; spec 5.9): each part sees the wave as rows of one
/// period and convolves along the columns. Parameters `discriminators.{k}.convs.{0…4}` and `.conv_post`.
public struct PeriodDiscriminator: Discriminator {
  private let config: DiscriminatorConfig
  private let scope: ParameterScope

  /// With its parameters under `scope`.
  public init(_ config: DiscriminatorConfig, _ scope: ParameterScope) {
    self.config = config
    self.scope = scope
  }

  /// Features are those of the five layers and the scores.
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> [Judgement] {
    try wave.requireWave("period discriminator")
    var result: [Judgement] = []
    for (index, period) in config.periods.enumerated() {
      try result.append(judge(wave, period, scope["discriminators"][index]))
    }
    return result
  }

  private func judge(_ wave: Tensor, _ period: Int, _ scope: ParameterScope) throws(TensorError) -> Judgement
  {
    guard period > 0 else {
      throw .argument(op: "period discriminator", problem: "\(period) is no period", path: scope.prefix)
    }
    let rest = wave.shape[2] % period
    let whole = try scope.record { () throws(TensorError) in
      try wave.padded(axis: 2, before: 0, after: rest == 0 ? 0 : period - rest, mode: .reflect)
    }
    let rows = try whole.reshaped([wave.shape[0], 1, whole.shape[2] / period, period])
    let layers = [32, 128, 512, 1024, 1024].enumerated().map { layer, channels in
      let geometry = ConvolutionShape2D(stride: [layer < 4 ? 3 : 1, 1], padding: [2, 0])
      return (config.channels(channels), [5, 1], geometry)
    }
    return try scope.judgement(rows, layers, lastTaps: [3, 1])
  }
}

/// The multi-resolution discriminator of UnivNet (Jang et al. 2021; spec 5.9): each part sees the magnitudes of a
/// short-time Fourier transform under a rectangular window. Names as the multi-period discriminator's.
public struct ResolutionDiscriminator: Discriminator {
  private let config: DiscriminatorConfig
  private let scope: ParameterScope

  /// With its parameters under `scope`.
  public init(_ config: DiscriminatorConfig, _ scope: ParameterScope) {
    self.config = config
    self.scope = scope
  }

  /// Features are those of the five layers and the scores.
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> [Judgement] {
    try wave.requireWave("resolution discriminator")
    var result: [Judgement] = []
    for (index, resolution) in config.resolutions.enumerated() {
      try result.append(judge(wave, resolution, scope["discriminators"][index]))
    }
    return result
  }

  private func judge(
    _ wave: Tensor, _ resolution: [Int], _ scope: ParameterScope
  ) throws(TensorError) -> Judgement {
    let image = try scope.record { () throws(TensorError) in try magnitudes(wave, resolution) }
    let layers = (0..<5).map { layer in
      let taps = layer < 4 ? [3, 9] : [3, 3]
      let stride = (1...3).contains(layer) ? [1, 2] : [1, 1]
      let geometry = ConvolutionShape2D(stride: stride, padding: taps.map { $0 / 2 })
      return (config.channels(32), taps, geometry)
    }
    return try scope.judgement(image, layers, lastTaps: [3, 3])
  }

  /// [B, 1, bins, frames] of a wave [B, 1, T].
  private func magnitudes(_ wave: Tensor, _ resolution: [Int]) throws(TensorError) -> Tensor {
    guard resolution.count == 3, resolution.allSatisfy({ $0 > 0 }), resolution[0] >= resolution[1] else {
      throw .argument(
        op: "resolution discriminator",
        problem: "\(resolution) is no transform size, hop no longer than it, and window length",
        path: wave.graph.path)
    }
    let (size, hop) = (resolution[0], resolution[1])
    let edge = (size - hop) / 2
    let spectrum = try wave.reshaped([wave.shape[0], wave.shape[2]])
      .padded(axis: 1, before: edge, after: edge, mode: .reflect)
      .stft(
        FrameShape(
          size: size, hop: hop, window: [Float](repeating: 1, count: resolution[2]), isCentered: false))
    // The smallest normal number keeps the root's derivative finite at silence.
    let magnitude = try (spectrum.power() + 1e-30).sqrt().permuted([0, 2, 1])
    return try magnitude.reshaped([magnitude.shape[0], 1] + magnitude.shape.dropFirst())
  }
}
