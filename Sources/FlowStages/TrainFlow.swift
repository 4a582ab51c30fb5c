import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCPU

/// `train-flow`: trains the transformer on latents, lyrics and styles.
struct TrainFlow: Stage {
  static let name = "train-flow"
  struct Parameters: Decodable, Sendable {
    var steps: Int
    var batch: Int
    var rate: Double
    var accumulation: Int
    var frames: Int
    var tokens: Int
    var dropout: Double
    var seed: Int
    var checkpoint: Int
  }
  let parameters: Parameters

  private var settings: FlowTraining {
    var settings = FlowTraining.tiny(steps: parameters.steps)
    settings.batch = parameters.batch
    settings.optimizer.learningRate = parameters.rate
    settings.optimizer.accumulation = parameters.accumulation
    settings.maxFrames = parameters.frames
    settings.maxTokens = parameters.tokens
    settings.textDropout = parameters.dropout
    settings.styleDropout = parameters.dropout
    return settings
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
    let seed = UInt64(bitPattern: Int64(parameters.seed))
    let split = ModelFiles.split(context.items("latents"), seed: seed)
    let items = split.items
    guard !items.isEmpty else { throw StageFailure("there are no latents to train on") }
    var width: Int?
    var songs: [FlowSong] = []
    for item in items {
      let style =
        try styles[item.item.id].map { try ModelFiles.tensor($0, ModelFiles.style, "style").floats } ?? []
      width = width ?? (style.isEmpty ? nil : style.count)
      songs.append(
        FlowSong(
          latents: try ModelFiles.tensor(item, ModelFiles.latents, "latents"),
          tokens: try lyrics[item.item.id].map(ModelFiles.tokens) ?? [], style: style))
    }
    settings.model.condDim = width ?? settings.model.condDim
    settings.model.melDim = songs[0].latents.shape.last ?? settings.model.melDim
    for index in songs.indices where songs[index].style.isEmpty {
      songs[index].style = [Float](repeating: 0, count: settings.model.condDim)
    }
    let trainer = try FlowTrainer(
      settings, songs: songs, validation: split.heldOut, seed: seed,
      backend: CPUBackend(threads: context.threads))
    try ModelFiles.run(trainer.loop, total: parameters.steps, every: parameters.checkpoint, context: context)
    func files(_ weights: [String: HostTensor]) throws -> [String: FileContent] {
      [
        ModelFiles.model: .bytes(Safetensors.encode(weights, metadata: ["format": "pt"])),
        ModelFiles.modelConfig: try ModelFiles.text(settings.model),
      ]
    }
    try context.emit("weights", id: "model", files: files(trainer.loop.bestWeights()))
    try context.emit("last", id: "model", files: files(trainer.loop.weights()))
    try context.emit(
      "losses", id: "model", files: ModelFiles.losses(trainer.loop.history, title: "flow matching: loss"))
  }
}
