import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@testable import FlowModels

/// Pitch, phones and singer beside a model, and the losses of the voice.
@Suite struct ConditionTests {
  static let config = DiTConfig(
    dim: 32, depth: 2, heads: 2, melDim: 8, textNumEmbeds: 520, condDim: 16, blockSize: 5)
  static let sizes = ConditionSizes([.f0, .phones, .singer], hidden: 8, singerWidth: 3, output: 16)

  static func songs() throws -> [FlowSong] {
    try (0..<4).map { index in
      var random = Philox(seed: UInt64(index), label: "voiced song")
      let frames = 7 + 3 * index
      let f0 = SongConditions.pitch(
        (0..<frames * 20).map { $0 % 30 < 5 ? 0 : 110 * pow(2, Double($0 % 17) / 8) }, step: 0.01, rate: 5,
        frames: frames)
      let phones = (0..<frames).map {
        SongConditions.Phone(id: Int32(1 + $0 % 5), start: Double($0), end: Double($0) + 0.7)
      }
      // What is sung is heard in the latents.
      var latents: [Float] = []
      for frame in 0..<frames {
        for channel in 0..<8 {
          var value = Float(random.normal()) * 0.3
          if channel < 2 { value += f0[frame * 8 + channel] }
          if channel - 2 == frame % 5 { value += 1 }
          latents.append(value)
        }
      }
      return FlowSong(
        latents: try HostTensor(latents, [frames, 8]), tokens: [3, 4, LyricTokens.lineEnd],
        style: PromptHash.vector("song \(index)", width: 16),
        voice: index == 3
          ? SongConditions() : SongConditions(f0: f0, phones: phones, singer: [1, Float(index), -1]))
    }
  }

  static func settings(_ steps: Int) -> FlowTraining {
    var settings = FlowTraining.tiny(steps: steps)
    settings.model = config
    settings.validateEvery = 4
    return settings
  }

  private func trainer(
    _ settings: FlowTraining, initial: [String: HostTensor] = [:], threads: Int = 1
  ) throws -> FlowTrainer {
    try FlowTrainer(
      settings, songs: ConditionTests.songs(), validation: [1], seed: 5,
      backend: CPUBackend(threads: threads), initial: initial)
  }

  private func song(_ trainer: FlowTrainer, _ voice: SongConditions, guidance: Float = 1) throws -> [Float] {
    let sampler = try trainer.sampler(textCount: 2, maxBlocks: 2, guidance: guidance)
    return try sampler.sample(
      text: [3, 4], style: [Float](repeating: 0.2, count: 16), blocks: 2, steps: 4, keepLastFrame: true,
      voice: voice, noise: { block in (0..<40).map { Float(($0 + block) % 5 - 2) } }
    ).floats
  }

  private let lowRank = LowRank(rank: 2, alpha: 4, targets: DiT.layers(["attention"]))

  /// Before they are trained, conditions change no bit, beside the base and beside an adapter.
  @Test(arguments: [false, true]) func atStepZeroTheModelIsTheBase(adapted: Bool) throws {
    let base = try trainer(ConditionTests.settings(2)).loop.weights()
    var settings = ConditionTests.settings(2)
    if adapted { settings.adaptation = lowRank }
    let plain = try trainer(settings, initial: base)
    settings.conditions = ConditionTests.sizes
    let conditioned = try trainer(settings, initial: base)
    for song in try ConditionTests.songs() {
      let expected = try self.song(plain, SongConditions())
      #expect(try self.song(conditioned, song.voice) == expected)
    }
  }

  /// Conditions alone are learnt beside a frozen base, which doesn't change; the song then depends on each; a stop changes
  /// nothing.
  @Test func conditionsLearnBesideAFrozenBase() throws {
    let base = try trainer(ConditionTests.settings(2)).loop.weights()
    var settings = ConditionTests.settings(60)
    settings.conditions = ConditionTests.sizes
    settings.isFrozen = true
    settings.alignmentWeight = 0.5
    settings.pitchWeight = 0.3
    settings.optimizer.learningRate = 1e-2
    let whole = try trainer(settings, initial: base)
    try whole.loop.run()
    let names = try whole.loop.weights().keys
    #expect(names.allSatisfy { $0.hasPrefix("conditions.") || $0.hasPrefix("heads.") })
    #expect(names.contains("conditions.singer.weight") && names.contains("heads.pitch.2.bias"))
    let (model, conditions) = FlowTrainer.split(try whole.loop.weights())
    #expect(model.isEmpty && conditions.count == 5)

    for term in ["alignment", "pitch"] {
      let values = whole.loop.history.compactMap { $0.terms?[term] }
      let (first, last) = (values.prefix(8).reduce(0, +), values.suffix(8).reduce(0, +))
      #expect(values.count == 60 && last < 0.8 * first, "\(term): \(values)")
    }
    let voice = try ConditionTests.songs()[0].voice
    let sung = try song(whole, voice)
    var others = [voice, voice, voice]
    others[0].f0 = others[0].f0.map { -$0 }
    others[1].phones = []
    others[2].singer = [0, 0, 9]
    for other in others { #expect(relativeError(try song(whole, other), sung) > 1e-4) }
    // Without any, it is the base.
    let plain = try trainer(ConditionTests.settings(2), initial: base)
    #expect(try song(whole, SongConditions()) == song(plain, SongConditions()))

    let part = try trainer(settings, initial: base, threads: 2)
    struct Stop: Error {}
    #expect(throws: Stop.self) { try part.loop.run { if $0.step == 20 { throw Stop() } } }
    let resumed = try trainer(settings, initial: base)
    try resumed.loop.restore(Data(part.loop.checkpoint()))
    try resumed.loop.run()
    #expect(try resumed.loop.checkpoint() == whole.loop.checkpoint())
  }

  /// Random weights for all of them, so that no gradient is 0 for a reason of its own.
  private func store(_ list: ParameterList) throws -> ParameterStore {
    let store = ParameterStore(CPUBackend())
    for declaration in list.declarations {
      let shape = declaration.tensor.shape
      var random = Philox(seed: 4, label: declaration.name)
      let values = (0..<shape.reduce(1, *)).map { _ in Float(random.normal() * 0.25) }
      try store.set(declaration.name, try HostTensor(values, shape))
    }
    return store
  }

  @Test func gradientsAreThoseOfFiniteDifferences() throws {
    var settings = ConditionTests.settings(2)
    settings.conditions = ConditionTests.sizes
    settings.isFrozen = true
    settings.alignmentWeight = 0.5
    settings.pitchWeight = 0.3
    let batches = try FlowBatches(
      settings, songs: ConditionTests.songs(), part: BatchPart(of: 2, SoleRank()))
    var random = Philox(seed: 1)
    var inputs = try batches.inputs([0, 2], &random, dropout: false)
    inputs[TrainingStep.share] = nil
    let graph = Graph()
    let list = settings.parameters(graph, ParameterStore(CPUBackend()))
    let loss = try batches.losses(list).total
    let store = try store(list)
    let trainable = list.trainable
    #expect(trainable.count == 13)
    let gradients = try graph.gradients(of: loss, withRespectTo: trainable.map(\.tensor))
    var outputs = ["loss": loss]
    for (declaration, gradient) in zip(trainable, gradients) { outputs[declaration.name] = gradient }
    let found = try Program(graph, outputs: outputs, parameters: store).run(inputs)
    let plain = try Program(
      Graph.recorded { try batches.losses(settings.parameters($0, store)).total }, parameters: store)
    for declaration in trainable {
      let gradient = try #require(found[declaration.name]?.floats)
      let weight = try store.get(declaration.name)
      let norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(norm > 1e-5, "\(declaration.name)")
      // Along the gradient, where the slope is its norm.
      func at(_ distance: Float) throws -> Double {
        let moved = zip(weight.floats, gradient).map { $0 + distance * $1 / norm }
        try store.set(declaration.name, try HostTensor(moved, weight.shape))
        return Double(try #require(plain.run(inputs)["loss"]?.floats[0]))
      }
      let step: Float = 2e-2
      let slope = try (at(step) - at(-step)) / Double(2 * step)
      try store.set(declaration.name, weight)
      #expect(
        abs(slope - Double(norm)) < 0.02 * Double(norm) + 2e-4, "\(declaration.name): \(slope), \(norm)")
    }
  }

  /// Sampling with kept keys and values gives what one pass over the whole song does: conditions reach text (by the singer's
  /// style), clean and noisy blocks alike.
  @Test func samplingSeesWhatTrainingSees() throws {
    let (config, sizes) = (ConditionTests.config, ConditionTests.sizes)
    let voice = try ConditionTests.songs()[2].voice
    let graph = Graph()
    let list = ParameterList(graph)
    let networks = Conditions(sizes, list)
    let features = try networks.inputs(graph, batch: 1, frames: 10)
    var batch = try FlowMatching.Batch(
      text: graph.input("text", [1, 2], .int32), clean: graph.input("clean", [1, 10, 8]),
      noisy: graph.input("noisy", [1, 10, 8]), time: graph.input("time", [1, 10]),
      target: graph.input("target", [1, 10, 8]), style: graph.input("style", [1, 16]),
      mask: graph.input("mask", [1, 1, 22, 22], .bool), valid: graph.input("valid", [1, 10]))
    batch.addition = try networks.frames(features)
    batch.style = try networks.style(batch.style, singer: features[.singer])
    let velocity = try FlowMatching.loss(DiT(config, list.scope["transformer"]), batch).velocity
    let store = try store(list)
    let program = try Program(graph, outputs: ["velocity": velocity], parameters: store)
    let style = [Float](repeating: 0.2, count: 16)
    let noise: [[Float]] = [0, 3].map { shift in
      (0..<40).map { (index: Int) -> Float in Float((index + shift) % 7 - 3) * 0.3 }
    }
    let sampler = try FlowSampler(
      config, store: store, textCount: 2, maxBlocks: 2, guidance: 0, conditions: sizes)
    // Two grid points are one step over the whole way: noise + velocity.
    let sampled = try sampler.sample(
      text: [3, 4], style: style, blocks: 2, steps: 2, keepLastFrame: true, voice: voice,
      noise: { noise[$0] }
    ).floats
    var inputs: [String: HostTensor] = try [
      "text": HostTensor([Int32(3), 4], [1, 2]), "clean": HostTensor(sampled, [1, 10, 8]),
      "noisy": HostTensor(noise[0] + noise[1], [1, 10, 8]),
      "time": HostTensor([Float](repeating: 0, count: 10), [1, 10]),
      "target": HostTensor([Float](repeating: 0, count: 80), [1, 10, 8]),
      "style": HostTensor(style, [1, 16]),
      "valid": HostTensor([Float](repeating: 1, count: 10), [1, 10]),
      "mask": FlowMatching.mask(
        textCount: 2, latentCount: 10, blockSize: 5, textLengths: [2], latentLengths: [10]),
    ]
    for kind in sizes.kinds {
      let width = sizes.width(kind)
      let values = voice.features(kind, 0..<10, width: width)
      inputs[Conditions.input(kind)] = try HostTensor(values, kind.isPerFrame ? [1, 10, width] : [1, width])
    }
    let expected = try #require(program.run(inputs)["velocity"]?.floats)
    let found = zip(sampled, noise[0] + noise[1]).map { $0 - $1 }
    #expect(relativeError(found, expected) < 1e-5)
  }

  @Test func featuresArePitchAndPhonesByFrame() {
    // Two frames of 0.2 s: a sample each 25 ms, half of the second part unvoiced.
    let track: [Double] = [220, 220, 440, 0, 0, 0, 110, 110, 880]
    let pitch = SongConditions.pitch(track, step: 0.025, rate: 5, frames: 2)
    #expect(pitch == [1, 0, 0.5, 0.5, 0, 0, 1, -1, 1, 2, 0, 0, 0, 0, 0, 0])
    // Coarser than the parts: the next sample stands for each.
    #expect(SongConditions.pitch([440, 0], step: 0.2, rate: 5, frames: 1) == [1, 1, 0, 0, 0, 0, 0, 0])
    let song = SongConditions(phones: [
      .init(id: 2, start: 0.5, end: 1.25), .init(id: 1, start: 1.25, end: 1.5),
      .init(id: 9, start: 0, end: 5),
    ])
    #expect(song.features(.phones, 0..<3, width: 3) == [0, 0.5, 0, 0.25, 0.25, 0, 0, 0, 0])
    #expect(song.features(.phones, 1..<2, width: 3) == [0.25, 0.25, 0])
    #expect(
      song.features(.f0, 4..<5, width: 2) == [0, 0] && song.features(.singer, 0..<0, width: 2) == [0, 0])
  }

  @Test func conditionsHaveFilesOfTheirOwn() throws {
    var settings = ConditionTests.settings(2)
    settings.conditions = ConditionTests.sizes
    let weights = FlowTrainer.split(try trainer(settings).loop.weights()).conditions
    let given = ConditionAdapter(ConditionTests.sizes, base: "flow/1", weights: weights)
    let folder = try TemporaryFolder()
    for (name, bytes) in try given.files() { try folder.write(name, Data(bytes)) }
    let (config, file) = (
      folder.path + "/" + ConditionAdapter.configFile, folder.path + "/" + ConditionAdapter.weightsFile
    )
    let read = try ConditionAdapter(config: config, weights: file)
    #expect(read.sizes == given.sizes && read.base == given.base && read.weights == given.weights)
    try read.check(ConditionTests.config, named: "flow/1")

    func refusal(_ adapter: ConditionAdapter, _ config: DiTConfig = ConditionTests.config) -> String {
      do { try adapter.check(config, named: "flow/1") } catch { return "\(error)" }
      return ""
    }
    var other = read
    other.base = "flow/2"
    #expect(refusal(other) == "the conditions were trained for 'flow/2', but the base is 'flow/1'")
    #expect(refusal(read, .tiny).contains("add 16 numbers, but the model's tokens have 128"))
    other = read
    other.weights["conditions.f0.in.weight"] = nil
    #expect(
      refusal(other)
        == "the weights lack 'conditions.f0.in.weight': a shard is missing, or they are of another model")
    other.weights["conditions.f0.in.weight"] = try HostTensor([Float(0)], [1, 1])
    #expect(refusal(other).contains("'conditions.f0.in.weight' has shape [1, 1], but the model's is [8, 8]"))
    other.weights = [:]
    #expect(refusal(other).contains("lack"))
    for text in ["[]", #"{"format": "x"}"#, "{"] {
      try folder.write(ConditionAdapter.configFile, text)
      #expect(throws: ConditionError.self) { try ConditionAdapter(config: config, weights: file) }
    }
  }
}

extension Graph {
  fileprivate static func recorded(_ body: (Graph) throws -> Tensor) throws -> (Graph, Tensor) {
    let graph = Graph()
    return (graph, try body(graph))
  }
}

extension Program {
  fileprivate convenience init(_ recorded: (graph: Graph, loss: Tensor), parameters: ParameterStore) throws {
    try self.init(recorded.graph, outputs: ["loss": recorded.loss], parameters: parameters)
  }
}
