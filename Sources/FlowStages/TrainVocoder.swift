import FlowAudio
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCPU

/// `train-vocoder`: trains decoder and encoder together, or one against the other as it is, on all songs.
struct TrainVocoder: Stage {
  static let name = "train-vocoder"
  struct Parameters: Decodable, Sendable {
    var trained: VocoderTraining.Trained
    var steps: Int
    var batch: Int
    var frames: Int
    var rate: Double
    var accumulation: Int
    var mel: Double
    var magnitude: Double
    var floor: Double
    var noise: Double
    var adversarial: Double
    var features: Double
    var discriminators: String
    var width: Double
    var heldOut: Double
    var preview: Int
    var ranks: Int
    var seed: Int
    var checkpoint: Int
    var device: DeviceKind
    var precision: DevicePrecision
    var optimizerState: MemoryPlace
    enum CodingKeys: String, CodingKey {
      case trained, steps, batch, frames, rate, accumulation, mel, magnitude, floor, noise, adversarial,
        features,
        discriminators, width
      case heldOut = "held_out"
      case preview, ranks, seed, checkpoint, device, precision
      case optimizerState = "optimizer_state"
    }
  }
  let parameters: Parameters

  private var settings: VocoderTraining {
    var settings = VocoderTraining.tiny(steps: parameters.steps)
    settings.trained = parameters.trained
    settings.batch = parameters.batch
    settings.frames = parameters.frames
    settings.optimizer.learningRate = parameters.rate
    settings.optimizer.accumulation = parameters.accumulation
    settings.melWeight = Float(parameters.mel)
    settings.magnitudeWeight = Float(parameters.magnitude)
    settings.floor = Float(parameters.floor)
    settings.latentNoise = Float(parameters.noise)
    if parameters.adversarial > 0 || parameters.features > 0 {
      let channels = parameters.width
      settings.adversarial = AdversarialTraining(
        weight: Float(parameters.adversarial), featureWeight: Float(parameters.features),
        waves: DiscriminatorConfig(channelMultiplier: channels),
        subbands: parameters.discriminators == "subbands"
          ? SubbandConfig.published(samplingRate: settings.vocoder.samplingRate, channels: channels) : [])
    }
    return settings
  }

  func programs() throws -> [ProgramListing] {
    let (settings, seconds) = (settings, 10)
    let silence = [Float](repeating: 0, count: seconds * settings.vocoder.samplingRate)
    let trainer = try VocoderTrainer(
      settings, songs: [silence], validation: [], seed: 0, backend: CPUBackend())
    return trainer.loop.listings.map { ProgramListing(name: $0.name, text: $0.text) }
  }

  func run(_ context: StageContext) throws {
    var settings = settings
    var initial: [String: HostTensor] = [:]
    if let base = try NetworkFiles.optional(context, "base", .decoder) {
      settings.vocoder = try base.config(VocoderConfig.self)
      for (name, value) in try base.parameters() { initial[VocoderTrainer.decoderPrefix + name] = value }
      if let encoder = NetworkFiles(context.items("base"), .encoder) {
        settings.encoder = try encoder.config(LatentEncoderConfig.self)
        for (name, value) in try encoder.parameters() { initial[VocoderTrainer.encoderPrefix + name] = value }
      } else {
        settings.encoder = .fitting(settings.vocoder)
        context.log("the base has no encoder: a new one is trained")
      }
    } else if parameters.trained != .all {
      throw StageFailure(
        "the \(parameters.trained.rawValue) is to be trained alone, and there is nothing beside it",
        help: "bind the input 'base' to weights of a vocoder, or set 'trained' to all")
    }
    let isNew = !initial.keys.contains { $0.hasPrefix(VocoderTrainer.encoderPrefix) }
    guard parameters.trained != .decoder || !isNew else {
      throw StageFailure(
        "the decoder is to be trained alone, and the base has no encoder.json and encoder.safetensors",
        help: "first set 'trained' to encoder, so that there are latents")
    }
    let seed = UInt64(bitPattern: Int64(parameters.seed))
    let split = ModelFiles.split(context.items("audio"), seed: seed, share: parameters.heldOut)
    guard !split.items.isEmpty else { throw StageFailure("there is no audio to train the vocoder on") }
    let songs = try split.items.map { try ModelFiles.wave($0, rate: settings.vocoder.samplingRate) }
    let backend = try context.backend(parameters.device, parameters.precision)
    let memory = TrainingMemory(backend, parameters.optimizerState, context)
    let trainer = try memory.made(["lower 'batch' (and raise 'accumulation')", "lower 'frames'"]) {
      try VocoderTrainer(
        settings, songs: songs, validation: split.heldOut, seed: seed, backend: backend,
        initial: initial, ranks: context.ranks, state: parameters.optimizerState, available: $0)
    }
    memory.say(trainer.memory)
    let heard = Previews.excerpt(songs[split.heldOut.min() ?? 0], rate: settings.vocoder.samplingRate)
    let previews = Previews(
      context, every: parameters.preview, total: parameters.steps,
      references: [Previews.Sound(name: "reconstruction", audio: heard)],
      make: {
        let wave = try trainer.reconstruct(heard.mono).prefix(heard.count)
        return [
          Previews.Sound(
            name: "reconstruction", audio: AudioBuffer(Array(wave), sampleRate: heard.sampleRate))
        ]
      })
    try ModelFiles.run(
      trainer.loop, total: parameters.steps, every: parameters.checkpoint, previews: previews,
      context: context)
    func files(_ weights: [String: HostTensor]) throws -> [String: FileContent] {
      let parts = try trainer.split(weights)
      return [
        ModelFiles.decoder: .bytes(Safetensors.encode(parts.decoder, metadata: ["format": "pt"])),
        ModelFiles.encoder: .bytes(Safetensors.encode(parts.encoder, metadata: ["format": "pt"])),
        ModelFiles.decoderConfig: try ModelFiles.text(settings.vocoder),
        ModelFiles.encoderConfig: try ModelFiles.text(settings.encoder),
      ]
    }
    try context.emit("weights", id: "vocoder", files: files(trainer.loop.bestWeights()))
    try context.emit("last", id: "vocoder", files: files(trainer.loop.weights()))
    try context.emit(
      "losses", id: "vocoder",
      files: ModelFiles.losses(trainer.loop.history, title: "vocoder: loss", previews: previews))
  }
}
