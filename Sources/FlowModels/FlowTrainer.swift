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

  /// A song.
  public init(latents: HostTensor, tokens: [Int32], style: [Float]) {
    self.latents = latents
    self.tokens = tokens
    self.style = style
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

/// Trains the transformer by flow matching (spec 4.7) on latents, tokens and style vectors.
public final class FlowTrainer {
  /// The settings.
  public let settings: FlowTraining
  /// The loop, for its history, checkpoints and weights (named as in the published checkpoint).
  public let loop: TrainingLoop
  private let store: ParameterStore

  /// A training on `songs`.
  /// - Parameters:
  ///   - songs: what to learn. Their order matters to the result.
  ///   - validation: indices of the songs that are held out; when empty, all songs are used for both.
  ///   - seed: draws weights, batches, times and noise.
  ///   - initial: weights to start from, by name; others are drawn.
  ///   - ranks: those that share each batch; what is drawn doesn't depend on them.
  /// - Throws: `TrainingError.data` when a song doesn't fit the model, or the batch the ranks; `TensorError`.
  public init(
    _ settings: FlowTraining, songs: [FlowSong], validation: Set<Int>, seed: UInt64, backend: any Backend,
    initial: [String: HostTensor] = [:], ranks: any Communicator = SoleRank()
  ) throws {
    self.settings = settings
    let part = try BatchPart(of: settings.batch, ranks)
    let batches = try FlowBatches(settings, songs: songs, part: part)
    let used = Array(songs.indices)
    let held = used.filter(validation.contains)
    let training = held.count == used.count ? used : used.filter { !validation.contains($0) }
    guard !training.isEmpty else { throw TrainingError.data("there is no song to train on") }
    let checked = held.isEmpty ? training : held

    store = ParameterStore(backend)
    let store = store
    for (name, value) in initial { try store.set(name, value) }
    let graph = Graph()
    let list = ParameterList(graph)
    let loss = try batches.loss(list)
    try list.initialize(store, seed: seed)
    let step = try TrainingStep(
      loss: loss, parameters: list.declarations, store: store, settings: settings.optimizer, ranks: ranks)
    let checkGraph = Graph()
    let check = try Program(
      checkGraph, outputs: ["loss": try batches.loss(ParameterList(checkGraph))], parameters: store)
    loop = TrainingLoop(
      step, names: list.declarations.map(\.name), store: store, settings: settings.optimizer,
      validateEvery: settings.validateEvery,
      batches: { number in
        try (0..<settings.optimizer.accumulation).map { part in
          var random = Philox(seed: seed, label: "flow batch \(number) \(part)")
          let chosen = (0..<settings.batch).map { _ in
            training[Int(random.uniform() * Double(training.count))]
          }
          return try batches.inputs(chosen, &random, dropout: true)
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
      settings.model, store: store, textCount: textCount, maxBlocks: maxBlocks, guidance: guidance)
  }
}

/// Makes batches of one static shape out of songs: latents padded with ones to whole blocks (the end-of-prediction frames
/// of spec 4.2, at least one), then masked padding.
struct FlowBatches {
  private let settings: FlowTraining
  private let songs: [FlowSong]
  private let part: BatchPart
  private let textCount: Int
  private let latentCount: Int

  init(_ settings: FlowTraining, songs: [FlowSong], part: BatchPart) throws {
    let (config, size) = (settings.model, settings.model.blockSize)
    for (index, song) in songs.enumerated() {
      guard song.latents.shape.count == 2, song.latents.shape[1] == config.melDim, song.latents.shape[0] > 0
      else {
        throw TrainingError.data(
          "song \(index + 1) has latents \(song.latents.shape), not [frames, \(config.melDim)]")
      }
      guard song.style.count == config.condDim else {
        throw TrainingError.data(
          "song \(index + 1) has a style of \(song.style.count), not \(config.condDim)")
      }
      if let bad = song.tokens.first(where: { $0 < 0 || Int($0) > config.textNumEmbeds }) {
        throw TrainingError.data(
          "song \(index + 1) has the token \(bad), outside 0...\(config.textNumEmbeds)")
      }
    }
    self.settings = settings
    self.songs = songs
    self.part = part
    let most = max(1, settings.maxFrames / size) * size
    latentCount = songs.map { min(most, ($0.latents.shape[0] / size + 1) * size) }.max() ?? size
    textCount = max(1, songs.map { min(settings.maxTokens, $0.tokens.count) }.max() ?? 1)
  }

  private var maskCount: Int { textCount + 2 * latentCount }

  func loss(_ list: ParameterList) throws(TensorError) -> Tensor {
    let (graph, size, config) = (list.graph, part.rows.count, settings.model)
    let latents = [size, latentCount, config.melDim]
    let batch = try FlowMatching.Batch(
      text: graph.input("text", [size, textCount], .int32), clean: graph.input("clean", latents),
      noisy: graph.input("noisy", latents), time: graph.input("time", [size, latentCount]),
      target: graph.input("target", latents), style: graph.input("style", [size, config.condDim]),
      mask: graph.input("mask", [size, 1, maskCount, maskCount], .bool),
      valid: graph.input("valid", [size, latentCount]))
    return try FlowMatching.loss(DiT(config, list.scope["transformer"]), batch).loss
  }

  /// The inputs for this rank's part of the songs `chosen`; times, noise and dropped conditions come from `random`, which goes
  /// on by the whole batch on every rank.
  func inputs(_ chosen: [Int], _ random: inout Philox, dropout: Bool) throws(TensorError)
    -> [String: HostTensor]
  {
    let (config, channels) = (settings.model, settings.model.melDim)
    let size = config.blockSize
    var text: [Int32] = []
    var (clean, noisy, target, time): ([Float], [Float], [Float], [Float]) = ([], [], [], [])
    var (style, valid): ([Float], [Float]) = ([], [])
    var (textLengths, latentLengths): ([Int], [Int]) = ([], [])
    var frames: (own: Int, all: Int) = (0, 0)
    for (row, index) in chosen.enumerated() {
      let song = songs[index]
      let length = length(song)
      frames.all += length
      guard part.rows.contains(row) else {
        pass(&random)
        continue
      }
      frames.own += length
      let tokens = Array(song.tokens.prefix(textCount))
      let (dropsText, dropsStyle) = (random.uniform(), random.uniform())
      let withoutText = dropout && dropsText < settings.textDropout
      text += withoutText ? [Int32](repeating: LyricTokens.filler, count: tokens.count) : tokens
      text += [Int32](repeating: LyricTokens.filler, count: textCount - tokens.count)
      let withoutStyle = dropout && dropsStyle < settings.styleDropout
      style += withoutStyle ? [Float](repeating: 0, count: config.condDim) : song.style
      let known = min(song.latents.shape[0], length)
      let x1 =
        Array(song.latents.floats.prefix(known * channels))
        + [Float](repeating: 1, count: (latentCount - known) * channels)
      clean += x1
      for block in 0..<latentCount / size {
        let t = Float(random.uniform())
        time += [Float](repeating: t, count: size)
        for i in block * size * channels..<(block + 1) * size * channels {
          let x0 = Float(random.normal())
          noisy.append((1 - t) * x0 + t * x1[i])
          target.append(x1[i] - x0)
        }
      }
      valid += (0..<latentCount).map { $0 < length ? 1 : 0 }
      textLengths.append(tokens.count)
      latentLengths.append(length)
    }
    let count = part.rows.count
    let shape = [count, latentCount, channels]
    return try [
      "text": HostTensor(text, [count, textCount]), "clean": HostTensor(clean, shape),
      "noisy": HostTensor(noisy, shape), "time": HostTensor(time, [count, latentCount]),
      "target": HostTensor(target, shape), "style": HostTensor(style, [count, config.condDim]),
      "valid": HostTensor(valid, [count, latentCount]),
      // The loss is a mean over valid frames.
      TrainingStep.share: HostTensor([Float(frames.own) / Float(frames.all)], []),
      "mask": FlowMatching.mask(
        textCount: textCount, latentCount: latentCount, blockSize: size, textLengths: textLengths,
        latentLengths: latentLengths),
    ]
  }

  /// The frames of a song that count.
  private func length(_ song: FlowSong) -> Int {
    let size = settings.model.blockSize
    return min(latentCount, (song.latents.shape[0] / size + 1) * size)
  }

  /// Draws what a song of another rank's part takes.
  private func pass(_ random: inout Philox) {
    let (size, channels) = (settings.model.blockSize, settings.model.melDim)
    for _ in 0..<2 { _ = random.uniform() }
    for _ in 0..<latentCount / size {
      _ = random.uniform()
      for _ in 0..<size * channels { _ = random.normal() }
    }
  }
}
