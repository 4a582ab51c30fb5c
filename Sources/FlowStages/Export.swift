import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import Foundation

/// `export`: a folder to hand on: trained weights under the published names, with shards whose bytes were read back and
/// compared; an adapter; a model card, and what Git LFS must know.
struct Export: Stage {
  static let name = "export"
  struct Parameters: Decodable, Sendable {
    var shard: Int
    var license: String
    var title: String
    var baseModel: String
    var languages: [String]
    var samples: Int
    var type: Precision
    enum CodingKeys: String, CodingKey {
      case shard, license, title, languages, samples, type
      case baseModel = "base_model"
    }
  }
  enum Precision: String, Decodable, Sendable { case float32, bfloat16 }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let model = try NetworkFiles.optional(context, "model", .model)
    let vocoder = try NetworkFiles.optional(context, "vocoder", .decoder)
    let adapter = context.items("adapter").first
    guard model != nil || adapter != nil else {
      throw StageFailure("there is nothing to export", help: "bind 'model' or 'adapter'")
    }
    guard context.items("adapter").count < 2 else {
      throw StageFailure(
        "a folder holds one adapter, and \(context.items("adapter").count) are given",
        help: "make one of them with 'flow adapter stack'")
    }
    var card = ModelCard(
      name: parameters.title.isEmpty ? "DiffRhythm 2, fine-tuned" : parameters.title,
      license: parameters.license, base: parameters.baseModel, languages: parameters.languages)
    var files: [String: FileContent] = [:]
    if let model { try add(model, to: &files, &card, context) }
    if let vocoder { try add(vocoder: vocoder, to: &files, &card, context) }
    if let adapter { try add(adapter, to: &files, &card) }
    if let item = context.items("conditions").first {
      // Read, so that what isn't whole isn't handed on.
      let conditions = try VoiceFiles.adapter(item)
      for (name, bytes) in try conditions.files() { files[name] = .bytes(bytes) }
      let kinds = conditions.sizes.kinds.map(\.rawValue).joined(separator: ", ")
      card.facts.append("Conditions beside it: \(kinds) (`flow sample --conditions`).")
    }
    if let item = context.items("metrics").first {
      struct Metrics: Decodable { var metrics: [String: Double] }
      card.metrics = try item.json("metrics.json", Metrics.self).metrics.sorted { $0.key < $1.key }
        .map { (name: $0.key, value: $0.value) }
    }
    for (index, item) in context.items("samples").prefix(parameters.samples).enumerated() {
      let name = "sample-\(index + 1).wav"
      files[name] = .file(try item.path(Files.audio))
      card.samples.append((file: name, title: item.item.id))
    }
    files["README.md"] = .text(card.text)
    files[".gitattributes"] = .text(ModelCard.attributes)
    try context.emit(
      "weights", id: "export", files: files, attributes: ["license": .string(parameters.license)])
  }

  private var metadata: [String: String] {
    ["format": "pt", "architecture": "DiffRhythm2", "license": parameters.license]
  }

  private func tensors(_ network: NetworkFiles) throws -> [String: HostTensor] {
    let tensors = try network.tensors()
    return parameters.type == .bfloat16 ? tensors.mapValues { $0.cast(to: .bfloat16) } : tensors
  }

  private func add(
    _ model: NetworkFiles, to files: inout [String: FileContent], _ card: inout ModelCard,
    _ context: StageContext
  ) throws {
    let transformer = try tensors(model)
    guard transformer.keys.allSatisfy({ $0.hasPrefix("transformer.") }) else {
      throw StageFailure("the model has parameters outside 'transformer.'")
    }
    files[ModelFiles.modelConfig] = try ModelFiles.text(model.config(DiTConfig.self))
    let limit = parameters.shard * 1_048_576
    if transformer.values.reduce(0, { $0 + $1.floats.count * (parameters.type == .bfloat16 ? 2 : 4) })
      <= limit
    {
      files[ModelFiles.model] = .bytes(try Export.checked(transformer, metadata))
    } else {
      let shards = Safetensors.shards(transformer, limit: limit, metadata: metadata)
      var back: [String: HostTensor] = [:]
      for shard in shards.files {
        let file = try SafetensorsFile(data: Data(shard.bytes))
        for name in file.names { back[name] = try file.tensor(name) }
        files[shard.name] = .bytes(shard.bytes)
      }
      guard back == transformer.mapValues({ $0.cast(to: .float32) }) else {
        throw StageFailure("the shards read back differ from the weights")
      }
      files["model.safetensors.index.json"] = .text(shards.index)
    }
    let count = transformer.values.reduce(0) { $0 + $1.floats.count }
    context.metric("model.parameters", Double(count))
    card.hasModel = true
    card.facts.append("Transformer: \(count) parameters.")
  }

  private func add(
    vocoder: NetworkFiles, to files: inout [String: FileContent], _ card: inout ModelCard,
    _ context: StageContext
  ) throws {
    let decoder = try tensors(vocoder)
    let config = try vocoder.config(VocoderConfig.self)
    files[ModelFiles.decoderConfig] = try ModelFiles.text(config)
    files[ModelFiles.decoder] = .bytes(try Export.checked(decoder, metadata))
    // The encoder is not part of what is published, but of what latents are made with.
    if let encoder = NetworkFiles(context.items("vocoder"), .encoder) {
      files[ModelFiles.encoder] = .bytes(try Export.checked(tensors(encoder), metadata))
      files[ModelFiles.encoderConfig] = try ModelFiles.text(encoder.config(LatentEncoderConfig.self))
    }
    let count = decoder.values.reduce(0) { $0 + $1.floats.count }
    context.metric("decoder.values", Double(count))
    card.facts.append("Decoder: \(count) values, \(config.samplingRate) Hz.")
  }

  private func add(
    _ item: InputItem, to files: inout [String: FileContent], _ card: inout ModelCard
  ) throws {
    var adapter = try NetworkFiles.adapter(item)
    let settings = adapter.settings
    if let own = adapter.base, own != parameters.baseModel { card.facts.append("Trained on `\(own)`.") }
    if !parameters.baseModel.isEmpty { adapter.base = parameters.baseModel }
    for (name, bytes) in adapter.files() { files[name] = .bytes(bytes) }
    card.hasAdapter = true
    card.facts.append(
      "Adapter: rank \(settings.rank), alpha \(settings.alpha), \(adapter.parameterCount) parameters on \(settings.targets.count) targets."
    )
  }

  private static func checked(_ tensors: [String: HostTensor], _ metadata: [String: String]) throws -> [UInt8]
  {
    let bytes = Safetensors.encode(tensors, metadata: metadata)
    let file = try SafetensorsFile(data: Data(bytes))
    for (name, value) in tensors where try file.tensor(name) != value.cast(to: .float32) {
      throw StageFailure("'\(name)' read back differs from the weights")
    }
    guard file.names.count == tensors.count else {
      throw StageFailure("the file read back has other tensors")
    }
    return bytes
  }
}
