public import FlowNN
public import FlowTensor
import Foundation

/// The sizes of one sub-band constant-Q discriminator, by the names of BigVGAN's configuration.
public struct SubbandConfig: Sendable, Hashable, Codable {
  /// Channels of the first layer.
  public var filters: Int
  /// Channels of no layer exceed it.
  public var maxFilters: Int
  /// Factor of channels from layer to layer.
  public var filtersScale: Int
  /// Dilations along time of the strided layers.
  public var dilations: [Int]
  /// Channels of the scores.
  public var outChannels: Int
  /// Hz of the waves.
  public var samplingRate: Int
  /// Samples of the doubled rate between frames of the transform.
  public var hop: Int
  /// Octaves of the transform.
  public var octaves: Int
  /// Bins of an octave.
  public var binsPerOctave: Int

  enum CodingKeys: String, CodingKey {
    case filters = "cqtd_filters"
    case maxFilters = "cqtd_max_filters"
    case filtersScale = "cqtd_filters_scale"
    case dilations = "cqtd_dilations"
    case outChannels = "cqtd_out_channels"
    case samplingRate = "sampling_rate"
    case hop = "hop_length"
    case octaves = "n_octaves"
    case binsPerOctave = "bins_per_octave"
  }

  /// The three discriminators of BigVGAN v2, with `channels` times its channels.
  public static func published(samplingRate: Int, channels: Double = 1) -> [SubbandConfig] {
    [(512, 24), (256, 36), (256, 48)].map { hop, bins in
      SubbandConfig(
        filters: max(1, Int(128 * channels)), maxFilters: 1024, filtersScale: 1, dilations: [1, 2, 4],
        outChannels: 1,
        samplingRate: samplingRate, hop: hop, octaves: 9, binsPerOctave: bins)
    }
  }

  /// Channels of the layer that follows `layers` others.
  func channels(after layers: Int) -> Int {
    var channels = filters
    for _ in 0..<layers where channels < maxFilters { channels *= filtersScale }
    return min(channels, maxFilters)
  }

  func check() throws(TensorError) {
    guard
      [filters, maxFilters, filtersScale, outChannels, samplingRate].allSatisfy({ $0 > 0 && $0 < 1 << 24 }),
      dilations.allSatisfy({ $0 > 0 })
    else {
      throw .argument(op: "subband discriminator", problem: "its channels, dilations and rate are positive")
    }
  }
}

/// The multi-scale sub-band constant-Q discriminator (Gu et al. 2024; spec 5.9): each part sees real and imaginary parts
/// of a constant-Q transform of the wave at twice its rate; octaves are convolved apart, then together. Parameters
/// `discriminators.{k}.conv_pres.{octave}`, `.convs.{i}`, `.conv_post`; the first two kinds of layer have plain weights.
public struct SubbandDiscriminator: Discriminator {
  private let parts: [Part]

  /// A part per configuration, with parameters under `scope`.
  /// - Throws: `TensorError.argument` when a transform can't have those sizes.
  public init(_ configs: [SubbandConfig], _ scope: ParameterScope) throws(TensorError) {
    var parts: [Part] = []
    for (index, config) in configs.enumerated() {
      try parts.append(Part(config, scope["discriminators"][index]))
    }
    self.parts = parts
  }

  /// Features are those of the layers that see all octaves, without the scores.
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> [Judgement] {
    try parts.map { (part) throws(TensorError) in try part(wave) }
  }

  /// One discriminator, whose parameters are right under its scope.
  public struct Part {
    /// The transform it sees waves through.
    public let transform: ConstantQ
    private let config: SubbandConfig
    private let scope: ParameterScope

    /// With its parameters under `scope`.
    /// - Throws: `TensorError.argument` when a transform can't have those sizes.
    public init(_ config: SubbandConfig, _ scope: ParameterScope) throws(TensorError) {
      try config.check()
      transform = try ConstantQ(
        samplingRate: 2 * Double(config.samplingRate), hop: config.hop, octaves: config.octaves,
        binsPerOctave: config.binsPerOctave)
      self.config = config
      self.scope = scope
    }

    /// A wave [B, 1, T] at twice its rate, [B, 1, 2T].
    public func resampled(_ wave: Tensor) throws(TensorError) -> Tensor {
      try wave.requireWave("subband discriminator")
      return try scope.record { () throws(TensorError) in try WaveFilters.doubled(wave) }
    }

    /// The judgement of a wave [B, 1, T].
    public func callAsFunction(_ wave: Tensor) throws(TensorError) -> Judgement {
      let fast = try resampled(wave)
      return try judge(scope.record { () throws(TensorError) in try transform(fast) })
    }

    /// The judgement of a transform [B, 2, frames, bins].
    public func judge(_ spectrum: Tensor) throws(TensorError) -> Judgement {
      let bins = config.binsPerOctave
      guard spectrum.rank == 4, spectrum.shape[1] == 2, spectrum.shape[3] == bins * config.octaves else {
        throw .shape(
          op: "subband discriminator", shapes: [spectrum.shape],
          expected: "a transform is [B, 2, frames, \(bins * config.octaves)]", path: scope.prefix)
      }
      let flat = ConvolutionShape2D(padding: [1, 4])
      var octaves: [Tensor] = []
      for octave in 0..<config.octaves {
        let part = try spectrum.sliced(axis: 3, from: octave * bins, count: bins)
        try octaves.append(plain(scope["conv_pres"][octave], part, 2, flat))
      }
      var x = try Tensor.concatenated(octaves, axis: 3)
      x = try plain(scope["convs"][0], x, config.filters, flat).leakyRelu(0.1)
      var features = [x]
      for (index, dilation) in config.dilations.enumerated() {
        let geometry = ConvolutionShape2D(stride: [1, 2], padding: [dilation, 4], dilation: [dilation, 1])
        x = try scope["convs"][index + 1].convolution2D(
          x, config.channels(after: index + 1), [3, 9], geometry
        ).leakyRelu(0.1)
        features.append(x)
      }
      let (last, square) = (config.dilations.count + 1, ConvolutionShape2D(padding: [1, 1]))
      x = try scope["convs"][last].convolution2D(x, config.channels(after: last), [3, 3], square)
        .leakyRelu(0.1)
      features.append(x)
      x = try scope["conv_post"].convolution2D(x, config.outChannels, [3, 3], square)
      return Judgement(score: try x.flattened(), features: features)
    }

    private func plain(
      _ scope: ParameterScope, _ x: Tensor, _ output: Int, _ geometry: ConvolutionShape2D
    ) throws(TensorError) -> Tensor {
      let fan = x.shape[1] * 27
      return try scope.record { () throws(TensorError) in
        let weight = try scope.parameter("weight", [output, x.shape[1], 3, 9], .fanIn(fan))
        return try x.conv2d(weight, scope.parameter("bias", [output], .fanIn(fan)), geometry)
      }
    }
  }
}
