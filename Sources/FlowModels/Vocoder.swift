public import FlowNN
public import FlowTensor

/// The sizes of the BigVGAN-type generator that DiffRhythm 2 calls decoder, as `decoder.json` names them (spec 0.1).
public struct VocoderConfig: Sendable, Hashable, Codable {
  /// Latent channels.
  public var inChannels: Int
  /// "1" for AMPBlock1, "2" for AMPBlock2.
  public var resblock: String
  /// Factors of the upsampling stages; their product is samples per latent frame.
  public var upsampleRates: [Int]
  /// Taps of the transposed convolutions.
  public var upsampleKernelSizes: [Int]
  /// Channels before the first stage; each halves them.
  public var upsampleInitialChannel: Int
  /// Taps of the residual blocks, one block each.
  public var resblockKernelSizes: [Int]
  /// Dilations of each residual block.
  public var resblockDilationSizes: [[Int]]
  /// `snakebeta` or `snake`.
  public var activation: String
  /// Activation parameters are logarithms.
  public var snakeLogscale: Bool
  /// Ends in tanh; otherwise the wave is clamped to ±1.
  public var useTanhAtFinal: Bool
  /// The last convolution has a bias.
  public var useBiasAtFinal: Bool
  /// Hz of the wave.
  public var samplingRate: Int

  enum CodingKeys: String, CodingKey {
    case resblock, activation
    case inChannels = "in_channels"
    case upsampleRates = "upsample_rates"
    case upsampleKernelSizes = "upsample_kernel_sizes"
    case upsampleInitialChannel = "upsample_initial_channel"
    case resblockKernelSizes = "resblock_kernel_sizes"
    case resblockDilationSizes = "resblock_dilation_sizes"
    case snakeLogscale = "snake_logscale"
    case useTanhAtFinal = "use_tanh_at_final"
    case useBiasAtFinal = "use_bias_at_final"
    case samplingRate = "sampling_rate"
  }

  /// Reads `decoder.json`.
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    inChannels = try c.decodeIfPresent(Int.self, forKey: .inChannels) ?? 64
    resblock = try c.decodeIfPresent(String.self, forKey: .resblock) ?? "1"
    upsampleRates = try c.decode([Int].self, forKey: .upsampleRates)
    upsampleKernelSizes = try c.decode([Int].self, forKey: .upsampleKernelSizes)
    upsampleInitialChannel = try c.decode(Int.self, forKey: .upsampleInitialChannel)
    resblockKernelSizes = try c.decode([Int].self, forKey: .resblockKernelSizes)
    resblockDilationSizes = try c.decode([[Int]].self, forKey: .resblockDilationSizes)
    activation = try c.decodeIfPresent(String.self, forKey: .activation) ?? "snakebeta"
    snakeLogscale = try c.decodeIfPresent(Bool.self, forKey: .snakeLogscale) ?? true
    useTanhAtFinal = try c.decodeIfPresent(Bool.self, forKey: .useTanhAtFinal) ?? true
    useBiasAtFinal = try c.decodeIfPresent(Bool.self, forKey: .useBiasAtFinal) ?? true
    samplingRate = try c.decodeIfPresent(Int.self, forKey: .samplingRate) ?? 48000
  }

  /// The preset that the demo trains: 24 kHz, 4800 samples per latent frame.
  public static let tiny = VocoderConfig()

  private init() {
    inChannels = 64
    resblock = "2"
    upsampleRates = [10, 10, 8, 6]
    upsampleKernelSizes = [20, 20, 16, 12]
    upsampleInitialChannel = 192
    resblockKernelSizes = [3, 7]
    resblockDilationSizes = [[1, 3], [1, 3]]
    activation = "snakebeta"
    snakeLogscale = true
    useTanhAtFinal = false
    useBiasAtFinal = false
    samplingRate = 24000
  }

  /// Throws what is wrong with sizes that no generator can have.
  func check() throws(TensorError) {
    let stages = upsampleRates.count
    guard upsampleKernelSizes.count == stages,
      zip(upsampleRates, upsampleKernelSizes).allSatisfy({ $0 > 0 && $1 >= $0 })
    else {
      throw .argument(op: "decoder", problem: "each upsampling rate needs a kernel at least as long")
    }
    guard resblockDilationSizes.count == resblockKernelSizes.count, !resblockKernelSizes.isEmpty,
      resblockKernelSizes.allSatisfy({ $0 > 0 }), resblockDilationSizes.joined().allSatisfy({ $0 > 0 })
    else { throw .argument(op: "decoder", problem: "each residual kernel needs a list of dilations") }
    guard inChannels > 0, stages < 24, upsampleInitialChannel > 0, upsampleInitialChannel % (1 << stages) == 0
    else {
      throw .argument(
        op: "decoder", problem: "\(upsampleInitialChannel) channels can't be halved \(stages) times")
    }
  }

  /// Samples per latent frame.
  public var hop: Int { upsampleRates.reduce(1, *) }
}

/// The generator (spec 5): latents [B, channels, T] -> wave [B, 1, T·hop]. Weight norm is kept; parameter names are the
/// published ones.
public struct Vocoder {
  /// The sizes.
  public let config: VocoderConfig
  private let scope: ParameterScope

  /// The generator whose parameters are under `scope` (no prefix in the release's `generator` dictionary).
  public init(_ config: VocoderConfig, _ scope: ParameterScope) {
    self.config = config
    self.scope = scope
  }

  /// A weight-normalised weight: g · v / ‖v‖, the norm over all but the first axis (spec 5.4).
  static func normalized(
    _ scope: ParameterScope, _ shape: [Int], _ initializer: Initializer, scale: Initializer = .ones
  ) throws(TensorError) -> Tensor {
    let v = try scope.parameter("weight_v", shape, initializer)
    let g = try scope.parameter("weight_g", [shape[0]] + shape.dropFirst().map { _ in 1 }, scale)
    return try v.weighted(byNorm: g)
  }

  private func convolution(
    _ scope: ParameterScope, _ x: Tensor, _ output: Int, _ taps: Int, dilation: Int = 1, bias: Bool = true
  ) throws(TensorError) -> Tensor {
    let input = x.shape[1]
    return try scope.record { () throws(TensorError) in
      let weight = try Vocoder.normalized(
        scope, [output, input, taps], .normal(1 / Float(input * taps).squareRoot()))
      let bias = bias ? try scope.parameter("bias", [output], .zeros) : nil
      return try x.conv1d(weight, bias, padding: dilation * (taps - 1) / 2, dilation: dilation)
    }
  }

  private func activation(_ scope: ParameterScope, _ x: Tensor) throws(TensorError) -> Tensor {
    let (initial, channels): (Initializer, Int) = (config.snakeLogscale ? .zeros : .ones, x.shape[1])
    return try scope.record { () throws(TensorError) in
      let alpha = try scope["act"].parameter("alpha", [channels], initial)
      let beta =
        config.activation == "snakebeta" ? try scope["act"].parameter("beta", [channels], initial) : nil
      return try x.aliasFreeSnake(alpha: alpha, beta: beta, logScale: config.snakeLogscale)
    }
  }

  private func residual(
    _ scope: ParameterScope, _ x: Tensor, _ channels: Int, _ index: Int
  ) throws(TensorError) -> Tensor {
    let (taps, dilations) = (config.resblockKernelSizes[index], config.resblockDilationSizes[index])
    var x = x
    for (j, dilation) in dilations.enumerated() {
      if config.resblock == "1" {
        var y = try activation(scope["activations"][2 * j], x)
        y = try convolution(scope["convs1"][j], y, channels, taps, dilation: dilation)
        y = try activation(scope["activations"][2 * j + 1], y)
        x = try x + convolution(scope["convs2"][j], y, channels, taps)
      } else {
        let y = try activation(scope["activations"][j], x)
        x = try x + convolution(scope["convs"][j], y, channels, taps, dilation: dilation)
      }
    }
    return x
  }

  /// The wave of `latents` [B, channels, T], and intermediate values by the names of the golden files.
  public func callAsFunction(
    _ latents: Tensor
  ) throws(TensorError) -> (wave: Tensor, taps: [String: Tensor]) {
    try config.check()
    guard latents.rank == 3, latents.shape[1] == config.inChannels else {
      throw .shape(
        op: "decoder", shapes: [latents.shape], expected: "latents are [B, \(config.inChannels), T]",
        path: scope.prefix)
    }
    var taps: [String: Tensor] = [:]
    var channels = config.upsampleInitialChannel
    var x = try convolution(scope["conv_pre"], latents, channels, 7)
    taps["conv_pre"] = x
    let kernels = config.resblockKernelSizes.count
    for (i, rate) in config.upsampleRates.enumerated() {
      let (part, size) = (scope["ups"][i][0], config.upsampleKernelSizes[i])
      x = try part.record { () throws(TensorError) in
        let weight = try Vocoder.normalized(
          part, [channels, channels / 2, size], .normal(1 / Float(channels * size / rate).squareRoot()))
        let bias = try part.parameter("bias", [channels / 2], .zeros)
        return try x.convTranspose1d(weight, bias, stride: rate, padding: (size - rate) / 2)
      }
      channels /= 2
      taps["ups.\(i)"] = x
      var sum: Tensor?
      for k in 0..<kernels {
        let y = try residual(scope["resblocks"][i * kernels + k], x, channels, k)
        taps["resblocks.\(i * kernels + k)"] = y
        sum = if let sum { try sum + y } else { y }
      }
      x = try (sum ?? x) * (1 / Float(kernels))
    }
    x = try activation(scope["activation_post"], x)
    taps["activation_post"] = x
    x = try convolution(scope["conv_post"], x, 1, 7, bias: config.useBiasAtFinal)
    taps["conv_post"] = x
    return (try config.useTanhAtFinal ? x.tanh() : x.clamped(-1, 1), taps)
  }

  /// The fixed filters that the published file holds beside the parameters, by name.
  public static func filterBuffers(
    _ config: VocoderConfig
  ) throws(TensorError) -> [String: HostTensor] {
    let filter = try HostTensor(AliasFreeSnake.filter, [1, 1, AliasFreeSnake.filter.count])
    var result: [String: HostTensor] = [:]
    var places = ["activation_post"]
    for block in 0..<config.upsampleRates.count * config.resblockKernelSizes.count {
      let dilations = config.resblockDilationSizes[block % config.resblockKernelSizes.count].count
      for i in 0..<dilations * (config.resblock == "1" ? 2 : 1) {
        places.append("resblocks.\(block).activations.\(i)")
      }
    }
    for place in places {
      result[place + ".upsample.filter"] = filter
      result[place + ".downsample.lowpass.filter"] = filter
    }
    return result
  }

  /// Where chunked decoding cuts (spec 5.7): the first frame of each chunk of `chunk` frames, `overlap` shared.
  public static func chunkStarts(frames: Int, chunk: Int, overlap: Int) -> [Int] {
    if frames <= chunk { return [0] }
    var starts = Array(stride(from: 0, through: frames - chunk, by: chunk - overlap))
    if let last = starts.last, last + chunk < frames { starts.append(frames - chunk) }
    return starts
  }

  /// Joins chunks decoded alone, as the reference does: inner edges lose half the overlap, a later chunk overwrites an
  /// earlier, the last is aligned to the end.
  public static func joinChunks(
    _ waves: [[Float]], starts: [Int], frames: Int, chunk: Int, overlap: Int, hop: Int
  ) -> [Float] {
    if waves.count == 1 { return waves[0] }
    var result = [Float](repeating: 0, count: frames * hop)
    for (index, wave) in waves.enumerated() {
      let head = index == 0 ? 0 : overlap / 2 * hop
      let tail = index == waves.count - 1 ? 0 : overlap / 2 * hop
      let start = starts[index] * hop
      for i in head..<wave.count - tail { result[start + i] = wave[i] }
    }
    return result
  }
}

/// Decodes latents with programs kept per length.
public final class VocoderDecoder {
  private let config: VocoderConfig
  private let store: ParameterStore
  private let prefix: String
  private var programs: [Int: Program] = [:]

  /// A decoder with the parameters of `store` under `prefix`.
  /// - Throws: `TensorError`.
  public init(_ config: VocoderConfig, store: ParameterStore, prefix: String) throws {
    self.config = config
    self.store = store
    self.prefix = prefix
  }

  /// The wave of latents [1, channels, T], in chunks of `chunk` frames (a shorter input is decoded at once).
  /// - Throws: `TensorError`.
  public func decode(_ latents: HostTensor, chunk: Int = 20, overlap: Int = 5) throws -> [Float] {
    guard latents.shape.count == 3, latents.shape[0] == 1, chunk > 0, overlap >= 0, overlap < chunk else {
      throw TensorError.shape(
        op: "decoder", shapes: [latents.shape],
        expected: "latents are [1, channels, T], and chunks of \(chunk) frames are longer than their overlap")
    }
    let (channels, frames) = (latents.shape[1], latents.shape[2])
    let size = min(chunk, frames)
    let starts = Vocoder.chunkStarts(frames: frames, chunk: size, overlap: min(overlap, max(0, size - 1)))
    if programs[size] == nil {
      let graph = Graph()
      let list = ParameterList(graph, types: store.dtype)
      let scope = prefix.isEmpty ? list.scope : list.scope[prefix]
      let wave = try Vocoder(config, scope)(graph.input("latents", [1, channels, size])).wave
      programs[size] = try Program(graph, outputs: ["wave": wave], parameters: store)
    }
    let values = latents.floats
    var waves: [[Float]] = []
    for start in starts {
      var part: [Float] = []
      for c in 0..<channels { part += values[c * frames + start..<c * frames + start + size] }
      let result = try programs[size]?.run(["latents": HostTensor(part, [1, channels, size])])
      waves.append(result?["wave"]?.floats ?? [])
    }
    return Vocoder.joinChunks(
      waves, starts: starts, frames: frames, chunk: size, overlap: overlap, hop: config.hop)
  }
}
