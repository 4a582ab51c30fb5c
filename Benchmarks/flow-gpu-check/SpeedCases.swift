import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

extension SpeedBench {
  private var transformer: DiTConfig {
    options.isTiny ? DiTConfig(dim: 64, depth: 2, heads: 2) : DiTConfig(dim: 2048, depth: 16, heads: 16)
  }
  private var text: Int { options.isTiny ? 8 : 200 }
  private var frames: Int { options.isTiny ? 20 : 1050 }
  private var batch: Int { 4 }

  /// What training and sampling declare.
  private func parameters() throws -> ParameterList {
    let (config, graph) = (transformer, Graph())
    let list = ParameterList(graph)
    let model = DiT(config, list.scope["transformer"])
    _ = try model.embedText(graph.input("text", [1, 1], .int32))
    _ = try model(
      model.embedLatents(graph.input("latents", [1, 1, config.melDim])), time: graph.input("time", [1, 1]),
      style: graph.input("style", [1, config.condDim]),
      rotary: Rotary(graph, positions: [0], width: config.dim / config.heads),
      mask: graph.constant(HostTensor([true], [1, 1, 1, 1])))
    return list
  }

  /// A training step of the transformer, of all weights or of low-rank ones beside bfloat16 weights that are frozen.
  func training(_ name: String, isLowRank: Bool, state: MemoryPlace = .device) throws {
    var settings = FlowTraining.tiny(steps: 1000)
    settings.model = transformer
    settings.batch = batch
    settings.maxFrames = frames
    settings.maxTokens = text
    settings.textDropout = 0
    settings.styleDropout = 0
    settings.optimizer.learningRate = 1e-4
    settings.optimizer.schedule = .constant
    settings.optimizer.warmup = 0
    settings.optimizer.clip = 1
    if isLowRank {
      settings.adaptation = LowRank(
        rank: 16, alpha: 32, targets: DiT.layers(["attention", "feed_forward"]), dropout: 0)
    }
    let count = frames - 5
    let songs = try (0..<batch).map { index in
      FlowSong(
        latents: try HostTensor(drawn(index, count * transformer.melDim), [count, transformer.melDim]),
        tokens: (0..<text).map { Int32($0 % 360 + 1) }, style: drawn(9 + index, transformer.condDim))
    }
    let begun = secondsLeft
    let list = try parameters()
    let trainer = try FlowTrainer(
      settings, songs: songs, validation: [], seed: 1, backend: backend,
      initial: weights(list, isLowRank ? .bfloat16 : .float32), state: state)
    let made = begun - secondsLeft
    try time(name, trainer.loop, list, made: made, memory: trainer.memory)
  }

  /// Times the steps of a training, on one batch.
  private func time(
    _ name: String, _ loop: TrainingLoop, _ list: ParameterList, made: Double, memory: MemoryNeed
  ) throws {
    guard !(backend is CUDAPlanner) else {
      try record(name, ["planned": Double(memory.least)])
      for (part, program) in loop.programs {
        print("\(name) \(part): \(options.profiles ? program.listing : program.peak)")
      }
      return
    }
    let inputs = try loop.batch(ofStep: 0)
    var losses: [Double] = []
    func step() throws {
      losses.append(Double(try loop.take(inputs, step: losses.count)["loss"] ?? .nan))
    }
    let before = secondsLeft
    try step()
    let first = before - secondsLeft
    let times = try self.times(step)
    try record(
      name,
      [
        "flop": Double(loop.productFlops),
        "made_s": made,
        "first_step_s": first,
        "planned": Double(memory.least + context), "context": Double(context),
        "on_host": Double(memory.hostState), "need_programs": Double(memory.programs),
        "need_parameters": Double(memory.parameters), "need_state": Double(memory.optimizer),
        "need_intermediates": Double(memory.intermediates),
        "parameters": Double(list.declarations.reduce(0) { $0 + $1.tensor.shape.reduce(1, *) }),
      ], times: times, losses: losses)
    for (part, program) in loop.programs { try profile("\(name) \(part)", program) }
  }

  /// A song of 210 s (1,050 frames) with guidance, 16 grid points, in bfloat16 weights.
  func sampling() throws {
    let config = transformer
    let store = ParameterStore(backend)
    for (name, value) in try weights(parameters(), .bfloat16) { try store.set(name, value) }
    let blocks = frames / config.blockSize
    let sampler = try FlowSampler(
      config, store: store, textCount: text, maxBlocks: blocks, guidance: 2)
    let tokens = (0..<text).map { Int32($0 % 360 + 1) }
    func song(_ count: Int) throws {
      _ = try sampler.sample(
        text: tokens, style: drawn(3, config.condDim), blocks: count, steps: 16, keepLastFrame: true,
        noise: { block in
          var random = Philox(seed: 5, label: "noise \(block)")
          return (0..<config.blockSize * config.melDim).map { _ in Float(random.normal()) }
        })
    }
    try song(2)
    let begun = secondsLeft
    try song(blocks)
    try record("sample", [:], times: [(begun - secondsLeft) * 1e3])
    for (part, program) in sampler.programs { try profile("sample \(part)", program) }
  }

  private var decoder: VocoderConfig {
    var config = VocoderConfig.tiny
    config.resblock = "1"
    config.resblockKernelSizes = [3, 7, 11]
    config.resblockDilationSizes = [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    config.samplingRate = 48_000
    config.upsampleRates = options.isTiny ? [4, 2] : [10, 10, 8, 3, 2, 2]
    config.upsampleKernelSizes = options.isTiny ? [8, 4] : [20, 20, 16, 7, 4, 4]
    config.upsampleInitialChannel = options.isTiny ? 16 : 1536
    return config
  }

  /// A step of the vocoder and one of its discriminators, on clips of 2 s.
  func vocoding() throws {
    var settings = VocoderTraining.tiny(steps: 1000)
    settings.vocoder = decoder
    settings.encoder = .fitting(decoder)
    settings.trained = .decoder
    settings.frames = options.isTiny ? 200 : 10
    settings.batch = options.isTiny ? 2 : 4
    settings.latentWeight = 0
    settings.windows = options.isTiny ? [32, 64] : [32, 64, 128, 256, 512, 1024, 2048]
    settings.bands = options.isTiny ? [5, 10] : [5, 10, 20, 40, 80, 160, 320]
    settings.optimizer.learningRate = 1e-4
    settings.optimizer.schedule = .constant
    settings.optimizer.warmup = 0
    settings.adversarial = AdversarialTraining(
      weight: 1, featureWeight: 1, waves: DiscriminatorConfig(channelMultiplier: options.isTiny ? 1 / 32 : 1))
    let graph = Graph()
    let list = ParameterList(graph)
    _ = try Vocoder(decoder, list.scope["decoder"])(graph.input("latents", [1, decoder.inChannels, 1]))
    let wave = drawn(4, settings.frames * decoder.hop * 2).map { $0 * 0.3 }
    let begun = secondsLeft
    let trainer = try VocoderTrainer(
      settings, songs: [wave], validation: [], seed: 1, backend: backend, initial: weights(list))
    let made = begun - secondsLeft
    try time("vocoder-train", trainer.loop, list, made: made, memory: trainer.memory)
  }
}
