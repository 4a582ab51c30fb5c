import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import Foundation

/// `export`: the trained weights under the published names, with shards whose bytes were read back and compared.
struct Export: Stage {
  static let name = "export"
  struct Parameters: Decodable, Sendable {
    var shard: Int
    var license: String
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let model = try NetworkFiles(context, "model", .model)
    let vocoder = try NetworkFiles(context, "vocoder", .decoder)
    let metadata = ["format": "pt", "architecture": "DiffRhythm2", "license": parameters.license]
    let transformer = try model.tensors()
    let decoder = try vocoder.tensors()
    guard transformer.keys.allSatisfy({ $0.hasPrefix("transformer.") }) else {
      throw StageFailure("the model has parameters outside 'transformer.'")
    }
    var files: [String: FileContent] = [
      ModelFiles.modelConfig: try ModelFiles.text(model.config(DiTConfig.self)),
      ModelFiles.decoderConfig: try ModelFiles.text(vocoder.config(VocoderConfig.self)),
      ModelFiles.decoder: .bytes(try Export.checked(decoder, metadata)),
    ]
    // The encoder is not part of what is published, but of what latents are made with.
    if let encoder = NetworkFiles(context.items("vocoder"), .encoder) {
      files[ModelFiles.encoder] = .bytes(try Export.checked(encoder.tensors(), metadata))
      files[ModelFiles.encoderConfig] = try ModelFiles.text(encoder.config(LatentEncoderConfig.self))
    }
    let limit = parameters.shard * 1_048_576
    if transformer.values.reduce(0, { $0 + $1.floats.count * 4 }) <= limit {
      files[ModelFiles.model] = .bytes(try Export.checked(transformer, metadata))
    } else {
      let shards = Safetensors.shards(transformer, limit: limit, metadata: metadata)
      var back: [String: HostTensor] = [:]
      for shard in shards.files {
        let file = try SafetensorsFile(data: Data(shard.bytes))
        for name in file.names { back[name] = try file.tensor(name) }
        files[shard.name] = .bytes(shard.bytes)
      }
      guard back == transformer else { throw StageFailure("the shards read back differ from the weights") }
      files["model.safetensors.index.json"] = .text(shards.index)
    }
    let parameterCount = transformer.values.reduce(0) { $0 + $1.floats.count }
    context.metric("model.parameters", Double(parameterCount))
    context.metric("decoder.values", Double(decoder.values.reduce(0) { $0 + $1.floats.count }))
    try context.emit(
      "weights", id: "export", files: files, attributes: ["license": .string(parameters.license)])
  }

  private static func checked(_ tensors: [String: HostTensor], _ metadata: [String: String]) throws -> [UInt8]
  {
    let bytes = Safetensors.encode(tensors, metadata: metadata)
    let file = try SafetensorsFile(data: Data(bytes))
    for (name, value) in tensors where try file.tensor(name) != value {
      throw StageFailure("'\(name)' read back differs from the weights")
    }
    guard file.names.count == tensors.count else {
      throw StageFailure("the file read back has other tensors")
    }
    return bytes
  }
}
