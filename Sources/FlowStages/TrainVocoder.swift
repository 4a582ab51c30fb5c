import FlowModels
import FlowNN
import FlowStageKit
import FlowTensorCPU

/// `train-vocoder`: trains decoder and encoder together on all songs.
struct TrainVocoder: Stage {
  static let name = "train-vocoder"
  struct Parameters: Decodable, Sendable {
    var steps: Int
    var batch: Int
    var frames: Int
    var rate: Double
    var accumulation: Int
    var seed: Int
    var checkpoint: Int
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    var settings = VocoderTraining.tiny(steps: parameters.steps)
    settings.batch = parameters.batch
    settings.frames = parameters.frames
    settings.optimizer.learningRate = parameters.rate
    settings.optimizer.accumulation = parameters.accumulation
    let items = ModelFiles.byContent(context.items("audio"))
    guard !items.isEmpty else { throw StageFailure("there is no audio to train the vocoder on") }
    let songs = try items.map { try ModelFiles.wave($0, rate: settings.vocoder.samplingRate) }
    let seed = UInt64(bitPattern: Int64(parameters.seed))
    let trainer = try VocoderTrainer(
      settings, songs: songs, validation: ModelFiles.heldOut(songs.count, seed: seed), seed: seed,
      backend: CPUBackend(threads: context.threads))
    try ModelFiles.run(trainer.loop, total: parameters.steps, every: parameters.checkpoint, context: context)
    let weights = trainer.split(try trainer.loop.bestWeights())
    var files = ModelFiles.losses(trainer.loop.history, title: "vocoder: loss")
    files[ModelFiles.decoder] = .bytes(Safetensors.encode(weights.decoder, metadata: ["format": "pt"]))
    files[ModelFiles.encoder] = .bytes(Safetensors.encode(weights.encoder, metadata: ["format": "pt"]))
    files[ModelFiles.decoderConfig] = try ModelFiles.text(settings.vocoder)
    files[ModelFiles.encoderConfig] = try ModelFiles.text(settings.encoder)
    try context.emit("weights", id: "vocoder", files: files)
  }
}
