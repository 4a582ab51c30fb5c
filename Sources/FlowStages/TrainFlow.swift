import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCPU

/// `train-flow`: trains the transformer on latents, lyrics and styles.
struct TrainFlow: Stage {
  static let name = "train-flow"
  let parameters: Parameters

  init(parameters: Parameters) throws {
    try TrainFlow.check(parameters)
    self.parameters = parameters
  }

  func programs() throws -> [ProgramListing] {
    let (settings, model) = (settings, settings.model)
    let longest = FlowSong(
      latents: try HostTensor(
        [Float](repeating: 0, count: settings.maxFrames * model.melDim), [settings.maxFrames, model.melDim]),
      tokens: [Int32](repeating: 0, count: settings.maxTokens),
      style: [Float](repeating: 0, count: model.condDim))
    let trainer = try FlowTrainer(settings, songs: [longest], validation: [], seed: 0, backend: CPUBackend())
    return trainer.loop.listings.map { ProgramListing(name: $0.name, text: $0.text) }
  }

  func run(_ context: StageContext) throws {
    var settings = settings
    let lyrics = Dictionary(context.items("lyrics").map { ($0.item.id, $0) }, uniquingKeysWith: { a, _ in a })
    let styles = Dictionary(context.items("style").map { ($0.item.id, $0) }, uniquingKeysWith: { a, _ in a })
    let base = try NetworkFiles.optional(context, "base", .model)
    guard parameters.method == .full || base != nil else {
      throw StageFailure(
        "what stands beside a base is to be trained, and there is no base",
        help: "bind the input 'base' to weights of a transformer, or set 'method' to full")
    }
    let seed = UInt64(bitPattern: Int64(parameters.seed))
    let split = ModelFiles.split(context.items("latents"), seed: seed, share: parameters.heldOut)
    let items = split.items
    guard !items.isEmpty else { throw StageFailure("there are no latents to train on") }
    let voices = VoiceFiles(context)
    let wanted = kinds.union(parameters.phonemeAlignmentLoss > 0 ? [.phones] : [])
      .union(parameters.pitchConsistencyLoss > 0 ? [.f0] : [])
    if let lacking = voices.lacks(wanted) {
      throw StageFailure(
        "nothing is known of '\(lacking.rawValue)', which conditions or losses need",
        help: "bind the input '\(lacking.rawValue)', or leave it out of 'conditions' and set its loss to 0")
    }
    var width: Int?
    var songs: [FlowSong] = []
    for item in items {
      let style =
        try ModelFiles.ofSong(item.item.id, styles).map {
          try ModelFiles.tensor($0, ModelFiles.style, "style").floats
        } ?? []
      width = width ?? (style.isEmpty ? nil : style.count)
      let latents = try ModelFiles.tensor(item, ModelFiles.latents, "latents")
      let voice = try voices.voice(
        item.item.id, rate: VoiceFiles.rate(item), frames: latents.shape.first ?? 0)
      // A variant has its song's words; which of them a clip has isn't known.
      let words =
        item.item.id.contains("~clip") ? lyrics[item.item.id] : ModelFiles.ofSong(item.item.id, lyrics)
      songs.append(
        FlowSong(
          latents: latents, tokens: try words.map(ModelFiles.tokens) ?? [], style: style,
          voice: voice, set: ModelFiles.part(item)))
    }
    if let base {
      settings.model = try base.config(DiTConfig.self)
    } else {
      settings.model.condDim = width ?? settings.model.condDim
      settings.model.melDim = songs[0].latents.shape.last ?? settings.model.melDim
    }
    for index in songs.indices where songs[index].style.isEmpty {
      songs[index].style = [Float](repeating: 0, count: settings.model.condDim)
    }
    if !kinds.isEmpty {
      let width = settings.model.condDim
      settings.conditions = ConditionSizes(
        kinds, hidden: max(1, width / 2), singerWidth: try voices.singerWidth(), output: width)
    }
    let backend = try context.backend(parameters.device, parameters.precision)
    let memory = TrainingMemory(backend, parameters.optimizerState, context)
    var ways = ["lower 'batch' (and raise 'accumulation'), 'frames' or 'tokens'"]
    if !parameters.recompute { ways.append("set 'recompute: true'") }
    if parameters.method == .full { ways.append("train an adapter ('method: lora')") }
    let trainer = try memory.made(ways) {
      try FlowTrainer(
        settings, songs: songs, validation: split.heldOut, seed: seed,
        backend: backend, base: base?.files() ?? [], ranks: context.ranks,
        state: parameters.optimizerState, available: $0)
    }
    memory.say(trainer.memory)
    let previews = try previews(trainer, songs[split.heldOut.min() ?? 0], seed, context)
    let kept = KeptWeights(
      context, every: parameters.save, count: parameters.keep, total: parameters.steps)
    try ModelFiles.run(
      trainer.loop, total: parameters.steps, every: parameters.checkpoint, previews: previews, kept: kept,
      context: context)
    let output = TrainedFiles(settings, base: base)
    let isLast = settings.adaptation == nil ? "last" : "last-adapter"
    try output.emit(trainer.loop.bestWeights(), to: output.port, isBest: true, context: context)
    try output.emit(trainer.loop.weights(), to: isLast, context: context)
    try kept.forEach { try output.emit($1, to: "checkpoints", $0, context: context) }
    try context.emit(
      "losses", id: "model",
      files: ModelFiles.losses(trainer.loop.history, title: "flow matching: loss", previews: previews))
  }

  /// Songs from the lyrics and style of `song`, by the same noise each time, beside what the vocoder makes of its latents.
  private func previews(
    _ trainer: FlowTrainer, _ song: FlowSong, _ seed: UInt64, _ context: StageContext
  ) throws -> Previews {
    guard parameters.preview > 0 else {
      return Previews(context, every: 0, total: parameters.steps, references: []) { [] }
    }
    guard let vocoder = try NetworkFiles.optional(context, "vocoder", .decoder) else {
      throw StageFailure(
        "previews are asked for, and nothing makes them audible",
        help: "bind the input 'vocoder' to weights of a vocoder, or set 'preview' to 0")
    }
    let config = try vocoder.config(VocoderConfig.self)
    let decoder = try VocoderDecoder(
      config, store: vocoder.store(threads: context.threads), prefix: "")
    func sound(_ latents: HostTensor) throws -> Previews.Sound {
      var wave = latents.shape[latents.shape.count - 2] == 0 ? [0] : try decoder.decode(latents.columns())
      let peak = wave.reduce(1e-4) { max($0, abs($1)) }
      for i in wave.indices { wave[i] = wave[i].isFinite ? wave[i] * 0.891 / peak : 0 }
      return Previews.Sound(name: "song", audio: AudioBuffer(wave, sampleRate: config.samplingRate))
    }
    let (model, tokens) = (trainer.settings.model, song.tokens.prefix(parameters.tokens))
    let frames = min(song.latents.shape[0], 6 * config.samplingRate / config.hop)
    let truth = try HostTensor(
      Array(song.latents.floats.prefix(frames * model.melDim)), [frames, model.melDim])
    let blocks = (frames + model.blockSize - 1) / model.blockSize
    let sampler = try trainer.sampler(textCount: tokens.count, maxBlocks: blocks, guidance: 1)
    return Previews(
      context, every: parameters.preview, total: parameters.steps, references: [try sound(truth)],
      make: {
        let latents = try sampler.sample(
          text: Array(tokens), style: song.style, blocks: blocks, steps: 16, keepLastFrame: true,
          voice: song.voice,
          noise: { block in
            var random = Philox(seed: seed, label: "preview \(block)")
            return (0..<model.blockSize * model.melDim).map { _ in Float(random.normal()) }
          })
        return [try sound(latents)]
      })
  }
}
