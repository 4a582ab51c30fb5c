public import FlowCore
public import FlowNN
public import FlowTensor

/// Trains encoder and decoder together, or one of them: multi-scale mel loss, a little waveform loss, latents held near unit scale.
public final class VocoderTrainer {
  /// The settings.
  public let settings: VocoderTraining
  /// The loop, for its history, checkpoints and weights.
  public let loop: TrainingLoop
  private let store: ParameterStore
  private let decoder: VocoderDecoder
  private let names: [String]
  /// The memory it takes.
  public let memory: MemoryNeed
  /// Names under which encoder and decoder lie in the loop's weights.
  public static let encoderPrefix = "encoder.", decoderPrefix = "decoder."

  /// A training on `songs`.
  /// - Parameters:
  ///   - songs: mono waves at the decoder's rate. Their order matters to the result.
  ///   - validation: indices of the songs that are held out; when empty, all songs are used for both.
  ///   - seed: draws weights, segments and noise.
  ///   - initial: weights to start from under their names in the loop, all of a network's or none; others are drawn.
  ///   - ranks: those that share each batch; what is drawn doesn't depend on them.
  ///   - state: where the optimisers' state lies.
  ///   - available: what memory there is.
  /// - Throws: `TrainingError.data` when there is no audio, or the ranks don't divide the batch; `TrainingError.memory`, before
  ///   the first step, when there is less than it takes; `ParameterError` when the initial weights don't fit; `TensorError`.
  public init(
    _ settings: VocoderTraining, songs: [[Float]], validation: Set<Int>, seed: UInt64, backend: any Backend,
    initial: [String: HostTensor] = [:], ranks: any Communicator = SoleRank(), state: MemoryPlace = .device,
    available: AvailableMemory = AvailableMemory()
  ) throws {
    self.settings = settings
    let rows = try BatchPart(of: settings.batch, ranks).rows
    let hop = settings.vocoder.hop
    guard settings.encoder.hop == hop, settings.encoder.latentChannels == settings.vocoder.inChannels else {
      throw TrainingError.data("encoder and decoder differ in samples or channels per latent frame")
    }
    let batches = try VocoderBatches(settings, songs: songs, validation: validation, rows: rows, seed: seed)

    store = ParameterStore(backend)
    decoder = try VocoderDecoder(settings.vocoder, store: store, prefix: "decoder")
    let store = store
    let graph = Graph()
    let list = ParameterList(graph)
    let loss = try VocoderTrainer.loss(settings, rows: rows.count, list, shared: ranks.size > 1)
    try VocoderTrainer.accept(initial, list)
    for (name, value) in initial { try store.set(name, value) }
    try list.initialize(store, seed: seed)
    names = list.declarations.map(\.name)
    let trainable = list.declarations.filter { declaration in
      switch settings.trained {
      case .all: true
      case .decoder: declaration.name.hasPrefix(VocoderTrainer.decoderPrefix)
      case .encoder: declaration.name.hasPrefix(VocoderTrainer.encoderPrefix)
      }
    }
    let opposed = try settings.adversarial?.opposed(
      VocoderTrainer.loss(settings, rows: rows.count, ParameterList(Graph())), store: store, seed: seed)
    let lowered = try settings.adversarial.map { try $0.generatorLoss(loss) + loss.total } ?? loss.total
    let step = try TrainingStep(
      loss: lowered, outputs: ["mel": loss.mel], parameters: trainable, store: store,
      settings: settings.optimizer, state: state, ranks: ranks)
    // After the larger program, whose memory it uses by turns.
    let opponent = try opposed.map {
      try AdversarialTraining.opponent(
        $0, store: store, settings: settings.optimizer, state: state, ranks: ranks)
    }
    let checkGraph = Graph()
    let check = try Program(
      checkGraph,
      outputs: ["mel": try VocoderTrainer.loss(settings, rows: rows.count, ParameterList(checkGraph)).mel],
      parameters: store)
    var need = MemoryNeed(
      list, trained: trainable, settings: settings.optimizer,
      ranks: ranks, backend: backend, state: backend.place(state))
    need.intermediates = max(step.intermediateBytes, check.arenaCount * 4)
    need.programs = step.ownBytes + check.ownBytes
    if let opponent { need.add(opponent.memory) }
    memory = need
    try need.check(available)
    let prior =
      ranks.size > 1
      ? try VocoderTrainer.prior(settings, rows: rows.count, store: store, ranks: ranks) : nil

    let checks = try batches.checks()
    loop = TrainingLoop(
      step, names: trainable.map(\.name), store: store, settings: settings.optimizer,
      validateEvery: settings.validateEvery, opponent: opponent,
      batches: { try batches.batches(ofStep: $0) },
      complete: prior.map { prior in { batch in try batch.merging(prior.inputs(batch)) { $1 } } },
      validate: {
        var sum: Float = 0
        for batch in checks { sum += try check.run(batch)["mel"]?.floats[0] ?? .nan }
        return try ranks.sum(sum) / Float(ranks.size * checks.count)
      })
  }

  /// What encoder and decoder, with the weights as they are, make of a wave; a little longer, as its last frame is whole.
  /// - Throws: `TensorError`.
  public func reconstruct(_ wave: [Float]) throws -> [Float] {
    let latents = try LatentEncoder.encode(wave, config: settings.encoder, store: store, prefix: "encoder")
    return try decoder.decode(latents.columns())
  }

  /// Throws unless `initial` has all weights of a network of `list`'s shapes, or none of it.
  private static func accept(_ initial: [String: HostTensor], _ list: ParameterList) throws(ParameterError) {
    var shapes = initial.mapValues(\.shape)
    for prefix in [encoderPrefix, decoderPrefix] where !initial.keys.contains(where: { $0.hasPrefix(prefix) })
    {
      for part in list.declarations where part.name.hasPrefix(prefix) {
        shapes[part.name] = part.tensor.shape
      }
    }
    try list.accept(shapes)
  }

  private static func latents(_ settings: VocoderTraining, rows: Int, _ list: ParameterList)
    throws(TensorError) -> (wave: Tensor, latents: Tensor)
  {
    let wave = try list.graph.input("wave", [rows, 1, settings.frames * settings.vocoder.hop])
    return (wave, try LatentEncoder(settings.encoder, list.scope["encoder"])(wave))
  }

  private static func prior(
    _ settings: VocoderTraining, rows: Int, store: ParameterStore, ranks: any Communicator
  ) throws -> LatentPrior {
    let list = ParameterList(Graph())
    let latents = try latents(settings, rows: rows, list).latents
    return try LatentPrior(list.graph, latents: latents, store: store, ranks: ranks)
  }

  /// The loss of a batch, and what it compares.
  struct Loss {
    let total: Tensor
    let mel: Tensor
    let real: Tensor
    let generated: Tensor
  }

  /// The loss on `rows` segments; `shared`: they are a rank's part of a batch.
  private static func loss(
    _ settings: VocoderTraining, rows: Int, _ list: ParameterList, shared: Bool = false
  ) throws(TensorError) -> Loss {
    let (wave, latents) = try latents(settings, rows: rows, list)
    let noise = try list.graph.input("noise", [rows, settings.vocoder.inChannels, settings.frames])
    let made = try Vocoder(settings.vocoder, list.scope["decoder"])(latents + noise).wave
    let mel = try MelLoss(
      samplingRate: settings.vocoder.samplingRate, windows: settings.windows, bands: settings.bands,
      floor: settings.floor, magnitudeWeight: settings.magnitudeWeight)(
        wave, made)
    let prior = try shared ? LatentPrior.share(latents) : LatentPrior.loss(latents)
    let difference = try (wave - made).abs().mean().reshaped([])
    let total =
      try mel * settings.melWeight + difference * settings.waveWeight + prior * settings.latentWeight
    return Loss(total: total, mel: mel, real: wave, generated: made)
  }

  /// Splits weights of the loop, and those that it leaves as they are, into those of encoder and decoder, the decoder's under
  /// their published names and with the fixed filters that belong to its file.
  /// - Throws: `TensorError`.
  public func split(_ weights: [String: HostTensor]) throws -> (
    encoder: [String: HostTensor], decoder: [String: HostTensor]
  ) {
    var encoder: [String: HostTensor] = [:]
    var decoder = try Vocoder.filterBuffers(settings.vocoder)
    for name in names {
      let value = try weights[name] ?? store.get(name)
      if name.hasPrefix(VocoderTrainer.encoderPrefix) {
        encoder[String(name.dropFirst(VocoderTrainer.encoderPrefix.count))] = value
      } else {
        decoder[String(name.dropFirst(VocoderTrainer.decoderPrefix.count))] = value
      }
    }
    return (encoder, decoder)
  }
}
