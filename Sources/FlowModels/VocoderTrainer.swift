public import FlowCore
public import FlowNN
public import FlowTensor

/// How the vocoder and its encoder are trained.
public struct VocoderTraining: Sendable, Hashable, Codable {
  /// The decoder.
  public var vocoder: VocoderConfig
  /// The encoder.
  public var encoder: LatentEncoderConfig
  /// The optimiser.
  public var optimizer: OptimizerSettings
  /// Latent frames of a training segment.
  public var frames: Int
  /// Segments of a batch.
  public var batch: Int
  /// Windows of the mel loss.
  public var windows: [Int]
  /// Mel bands of each window.
  public var bands: [Int]
  /// Weight of the mean absolute difference of the waves.
  public var waveWeight: Float
  /// Weight of the pull of the latents to mean 0 and variance 1.
  public var latentWeight: Float
  /// Standard deviation of the noise added to latents in training, so that the decoder bears the transformer's errors.
  public var latentNoise: Float
  /// Steps between validations.
  public var validateEvery: Int
  /// Weight of the mel loss.
  public var melWeight: Float = 1
  /// Weight of magnitudes beside their logarithms within the mel loss.
  public var magnitudeWeight: Float = 0
  /// The smallest magnitude whose logarithm counts.
  public var floor: Float = 1e-5
  /// Training against discriminators; `nil` for none.
  public var adversarial: AdversarialTraining?
  /// What is trained; the rest stays as it is.
  public var trained = Trained.all

  /// What a training changes: both networks; the decoder alone, as a fine-tuning of a vocoder does; or the encoder alone, as
  /// is wanted for a decoder whose encoder nobody has.
  public enum Trained: String, Sendable, Hashable, Codable { case all, decoder, encoder }

  /// The preset that the demo trains: 24 kHz, 5 latent frames a second.
  public static func tiny(steps: Int) -> VocoderTraining {
    var optimizer = OptimizerSettings(learningRate: 2e-3, total: steps)
    optimizer.beta1 = 0.8
    optimizer.beta2 = 0.99
    optimizer.warmup = min(20, steps / 10)
    optimizer.clip = 10
    return VocoderTraining(
      vocoder: .tiny, encoder: .tiny, optimizer: optimizer, frames: 4, batch: 2,
      windows: [64, 256, 1024, 2048],
      bands: [10, 40, 160, 320], waveWeight: 1, latentWeight: 0.3, latentNoise: 0.1, validateEvery: 50)
  }
}

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
    let count = settings.frames * hop
    let used = songs.indices.filter { !songs[$0].isEmpty }
    let held = used.filter(validation.contains)
    let training = held.count == used.count ? used : used.filter { !validation.contains($0) }
    guard !training.isEmpty else { throw TrainingError.data("there is no audio to train the vocoder on") }
    let checked = held.isEmpty ? training : held

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

    @Sendable func inputs(_ segments: [[Float]], noise: [Float]) throws -> [String: HostTensor] {
      [
        "wave": try HostTensor(segments.flatMap { $0 }, [rows.count, 1, count]),
        "noise": try HostTensor(noise, [rows.count, settings.vocoder.inChannels, settings.frames]),
      ]
    }
    @Sendable func segment(_ song: [Float], from start: Int) -> [Float] {
      let part = Array(song[min(start, song.count)..<min(start + count, song.count)])
      return part + [Float](repeating: 0, count: count - part.count)
    }
    let noiseCount = settings.vocoder.inChannels * settings.frames
    let lengths = training.map { max(1, songs[$0].count - count + 1) }
    let total = lengths.reduce(0, +)
    // Validation sees the same segments every time, spread over what is held out.
    let batchesOfCheck = 2
    let places = (0..<batchesOfCheck * settings.batch).map { i in
      let song = checked[i % checked.count]
      let turns = (batchesOfCheck * settings.batch + checked.count - 1) / checked.count
      let room = max(0, songs[song].count - count)
      return segment(songs[song], from: turns > 1 ? room * (i / checked.count) / (turns - 1) : room / 2)
    }
    loop = TrainingLoop(
      step, names: trainable.map(\.name), store: store, settings: settings.optimizer,
      validateEvery: settings.validateEvery, opponent: opponent,
      batches: { number in
        try (0..<settings.optimizer.accumulation).map { part in
          var random = Philox(seed: seed, label: "vocoder batch \(number) \(part)")
          // Drawn for the whole batch on every rank.
          let starts = (0..<settings.batch).map { _ -> (index: Int, place: Int) in
            var place = Int(random.uniform() * Double(total))
            var index = 0
            while place >= lengths[index] {
              place -= lengths[index]
              index += 1
            }
            return (index, place)
          }
          let noise = (0..<settings.batch * noiseCount).map { _ in
            Float(random.normal()) * settings.latentNoise
          }
          return try inputs(
            rows.map { segment(songs[training[starts[$0].index]], from: starts[$0].place) },
            noise: Array(noise[rows.lowerBound * noiseCount..<rows.upperBound * noiseCount]))
        }
      },
      complete: prior.map { prior in { batch in try batch.merging(prior.inputs(batch)) { $1 } } },
      validate: {
        var sum: Float = 0
        for i in 0..<batchesOfCheck {
          let silent = [Float](repeating: 0, count: rows.count * noiseCount)
          let segments = rows.map { places[i * settings.batch + $0] }
          sum += try check.run(inputs(segments, noise: silent))["mel"]?.floats[0] ?? .nan
        }
        return try ranks.sum(sum) / Float(ranks.size * batchesOfCheck)
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

extension HostTensor {
  /// Latents [T, channels] or [1, T, channels], as encoder, data and sampler have them, as the decoder's [1, channels, T].
  /// - Throws: `TensorError` for another shape.
  public func columns() throws(TensorError) -> HostTensor {
    guard shape.count == 2 || (shape.count == 3 && shape[0] == 1) else {
      throw .shape(op: "latents", shapes: [shape], expected: "latents are [T, channels] or [1, T, channels]")
    }
    let (frames, channels, rows) = (shape[shape.count - 2], shape[shape.count - 1], floats)
    var columns = rows
    for t in 0..<frames {
      for c in 0..<channels { columns[c * frames + t] = rows[t * channels + c] }
    }
    return try HostTensor(columns, [1, channels, frames])
  }
}

extension LatentEncoder {
  /// The latents [T, channels] of a whole wave; the last frame is completed with silence.
  /// - Throws: `TensorError` when `store` lacks a weight.
  public static func encode(
    _ wave: [Float], config: LatentEncoderConfig, store: ParameterStore, prefix: String = ""
  ) throws -> HostTensor {
    let frames = max(1, (wave.count + config.hop - 1) / config.hop)
    let graph = Graph()
    let scope = ParameterList(graph, types: store.dtype).scope
    let encoder = LatentEncoder(config, prefix.isEmpty ? scope : scope[prefix])
    let latents = try encoder(graph.input("wave", [1, 1, frames * config.hop])).permuted([0, 2, 1])
    let program = try Program(
      graph, outputs: ["latents": latents.reshaped([frames, config.latentChannels])], parameters: store)
    let padded = wave + [Float](repeating: 0, count: frames * config.hop - wave.count)
    let result = try program.run(["wave": HostTensor(padded, [1, 1, padded.count])])
    return try result["latents"] ?? HostTensor([Float](), [0, config.latentChannels])
  }
}
