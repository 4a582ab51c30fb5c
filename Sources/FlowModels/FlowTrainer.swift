public import FlowCore
public import FlowNN
public import FlowTensor

/// A song as the transformer learns it.
public struct FlowSong: Sendable {
  /// Latents, [frames, channels].
  public var latents: HostTensor
  /// Token ids of its lyrics; may be empty.
  public var tokens: [Int32]
  /// Its style, `condDim` wide.
  public var style: [Float]
  /// What is known of its voice.
  public var voice: SongConditions
  /// The data set that it is of, from 0.
  public var set: Int

  /// A song.
  public init(
    latents: HostTensor, tokens: [Int32], style: [Float], voice: SongConditions = SongConditions(),
    set: Int = 0
  ) {
    self.latents = latents
    self.tokens = tokens
    self.style = style
    self.voice = voice
    self.set = set
  }
}

/// How the transformer is trained.
public struct FlowTraining: Sendable, Hashable, Codable {
  /// The transformer.
  public var model: DiTConfig
  /// The optimiser.
  public var optimizer: OptimizerSettings
  /// Songs of a batch.
  public var batch: Int
  /// How often each data set is drawn from, in the order of their numbers; none: each song is as likely as any other.
  public var weights: [Double] = []
  /// Most latent frames of a song; what follows is not learnt.
  public var maxFrames: Int
  /// Most tokens of a song; what follows is not learnt.
  public var maxTokens: Int
  /// Share of songs whose tokens are all replaced by filler.
  public var textDropout: Double
  /// Share of songs whose style is replaced by zero.
  public var styleDropout: Double
  /// Steps between validations.
  public var validateEvery: Int
  /// Computes each layer again for its gradients instead of keeping what it computed: less memory, a third more work.
  public var recomputes = false
  /// Trains low-rank parameters beside frozen weights instead of all weights.
  public var adaptation: LowRank?
  /// Trains networks for these conditions beside the model.
  public var conditions: ConditionSizes?
  /// Trains nothing of the model itself; so it is with an adaptation.
  public var isFrozen = false
  /// Weight of the flow-matching loss.
  public var flowWeight = 1.0
  /// Weight of the loss of phones that predicted latents lack; 0 for none.
  public var alignmentWeight = 0.0
  /// Weight of the loss of their pitch; 0 for none.
  public var pitchWeight = 0.0

  /// The preset that the demo trains.
  public static func tiny(steps: Int) -> FlowTraining {
    var optimizer = OptimizerSettings(learningRate: 1.5e-3, total: steps)
    optimizer.beta2 = 0.99
    optimizer.warmup = min(20, steps / 10)
    return FlowTraining(
      model: .tiny, optimizer: optimizer, batch: 2, maxFrames: 150, maxTokens: 256, textDropout: 0.1,
      styleDropout: 0.1, validateEvery: 25)
  }
}

extension FlowTraining {
  /// Whether the model's own weights stay as they are.
  var keepsModel: Bool { isFrozen || adaptation != nil }

  /// Where the model's parameters are declared: of the types in which `store` has them, adapted as the settings say.
  func parameters(
    _ graph: Graph, _ store: ParameterStore, dropoutKey: Tensor? = nil, ranks: any Communicator = SoleRank()
  ) -> ParameterList {
    ParameterList(
      graph, adaptation: adaptation.map { Adaptation($0, dropoutKey: dropoutKey, ranks: ranks) },
      isFrozen: isFrozen, beside: [Conditions.scope, VoiceLoss.scope],
      types: store.dtype)
  }
}

/// Trains the transformer by flow matching (spec 4.7) on latents, tokens and style vectors.
public final class FlowTrainer {
  /// The settings.
  public let settings: FlowTraining
  /// The loop, for its history, checkpoints and weights (named as in the published checkpoint).
  public let loop: TrainingLoop
  private let store: ParameterStore
  /// The memory it takes.
  public let memory: MemoryNeed

  /// A training on `songs`.
  /// - Parameters:
  ///   - songs: what to learn. Their order matters to the result.
  ///   - validation: indices of the songs that are held out; when empty, all songs are used for both.
  ///   - seed: draws weights, batches, times and noise.
  ///   - initial: weights to start from, by name: all of them (16-bit ones stay so where they are frozen), or none, and all are
  ///     drawn.
  ///   - base: files of weights to start from, likewise; where they are frozen they are read from the mapped file.
  ///   - ranks: those that share each batch; what is drawn doesn't depend on them.
  ///   - state: where the optimiser's state lies.
  ///   - available: what memory there is.
  /// - Throws: `TrainingError.data` when a song doesn't fit the model, or the batch the ranks; `TrainingError.memory`, before
  ///   it is taken, when there is less than the steps take; `ParameterError` when the initial
  ///   weights don't fit it; `AdapterError` when a target is none of its layers; `TensorError`.
  public init(
    _ settings: FlowTraining, songs: [FlowSong], validation: Set<Int>, seed: UInt64, backend: any Backend,
    initial: [String: HostTensor] = [:], base: [SafetensorsFile] = [], ranks: any Communicator = SoleRank(),
    state: MemoryPlace = .device, available: AvailableMemory = AvailableMemory()
  ) throws {
    self.settings = settings
    let part = try BatchPart(of: settings.batch, ranks)
    let batches = try FlowBatches(settings, songs: songs, part: part)
    let used = Array(songs.indices)
    let held = used.filter(validation.contains)
    let training = held.count == used.count ? used : used.filter { !validation.contains($0) }
    let order = try SongOrder(
      training.map { ($0, songs[$0].set) }, weights: settings.weights, seed: seed)
    let checked = held.isEmpty ? training : held

    store = ParameterStore(backend)
    let store = store
    for (name, value) in initial {
      try store.set(name, settings.keepsModel ? value : value.cast(to: .float32))
    }
    for file in base {
      if settings.keepsModel {
        try store.load(file, keeping: [.float32, .bfloat16, .float16], borrowing: true)
      } else {
        try store.load(file)
      }
    }
    let given = Dictionary(uniqueKeysWithValues: store.names.map { ($0, store.shape($0) ?? []) })
    let graph = Graph()
    let list = try settings.parameters(
      graph, store, dropoutKey: graph.input(FlowTrainer.dropoutKey, [2], .int32), ranks: ranks)
    let losses = try batches.losses(list)
    try list.accept(given)
    if let adaptation = settings.adaptation { try list.check(adaptation) }
    var need = MemoryNeed(
      list, settings: settings.optimizer, ranks: ranks, backend: backend, state: backend.place(state))
    try need.check(available)
    try list.initialize(store, seed: seed)
    let step = try TrainingStep(
      loss: losses.total, outputs: losses.terms, parameters: list.trainable, store: store,
      settings: settings.optimizer, state: state, ranks: ranks)
    let checkGraph = Graph()
    let check = try Program(
      checkGraph, outputs: ["loss": try batches.losses(settings.parameters(checkGraph, store)).flow],
      parameters: store)
    need.intermediates = max(step.intermediateBytes, check.arenaCount * 4)
    need.programs = step.ownBytes + check.ownBytes
    memory = need
    try need.check(available)
    loop = TrainingLoop(
      step, names: list.trainable.map(\.name), store: store, settings: settings.optimizer,
      validateEvery: settings.validateEvery, terms: losses.terms.keys.sorted(),
      batches: { number in
        try (0..<settings.optimizer.accumulation).map { part in
          var random = Philox(seed: seed, label: "flow batch \(number) \(part)")
          let draw = number * settings.optimizer.accumulation + part
          let chosen = order.songs(draw * settings.batch..<(draw + 1) * settings.batch)
          var inputs = try batches.inputs(chosen, &random, dropout: true)
          // Each batch drops other elements.
          inputs[FlowTrainer.dropoutKey] = try HostTensor(
            [Int32(truncatingIfNeeded: seed), Int32(truncatingIfNeeded: draw)], [2])
          return inputs
        }
      },
      validate: {
        var random = Philox(seed: seed, label: "flow validation")
        let runs = max(2, (checked.count + settings.batch - 1) / settings.batch)
        var sum: Float = 0
        for i in 0..<runs {
          let chosen = (0..<settings.batch).map { checked[(i * settings.batch + $0) % checked.count] }
          let inputs = try batches.inputs(chosen, &random, dropout: false)
          let share = inputs[TrainingStep.share]?.floats[0] ?? .nan
          sum += try share * (check.run(inputs)["loss"]?.floats[0] ?? .nan)
        }
        return try ranks.sum(sum) / Float(runs)
      })
  }

  /// A sampler of the weights as they are at each use.
  /// - Throws: `TensorError`.
  public func sampler(textCount: Int, maxBlocks: Int, guidance: Float) throws -> FlowSampler {
    try FlowSampler(
      settings.model, store: store, textCount: textCount, maxBlocks: maxBlocks, guidance: guidance,
      adaptation: settings.adaptation, conditions: settings.conditions)
  }

  /// Trained weights by where they belong: the model's own or low-rank ones, and those of the conditions. What only a loss needs
  /// is left out.
  public static func split(
    _ weights: [String: HostTensor]
  ) -> (model: [String: HostTensor], conditions: [String: HostTensor]) {
    func isOf(_ scope: String, _ name: String) -> Bool { name.hasPrefix(scope + ".") }
    return (
      weights.filter { !isOf(Conditions.scope, $0.key) && !isOf(VoiceLoss.scope, $0.key) },
      weights.filter { isOf(Conditions.scope, $0.key) }
    )
  }

  private static let dropoutKey = "adaptation.key"
}
