import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor

/// `encode-latents`: a song's wave to latents [T, channels].
struct EncodeLatents: Stage {
  static let name = "encode-latents"
  struct Parameters: Decodable, Sendable {}
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let network = try NetworkFiles(context, "weights", .encoder)
    let encoder = try network.config(LatentEncoderConfig.self)
    let rate = try NetworkFiles(context, "weights", .decoder).config(VocoderConfig.self).samplingRate
    let wave = try ModelFiles.wave(context.input("audio"), rate: rate)
    let store = try network.store(threads: context.threads)
    let latents = try LatentEncoder.encode(wave, config: encoder, store: store)
    let values = latents.floats
    let mean = values.reduce(0.0) { $0 + Double($1) } / Double(values.count)
    let square = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(values.count)
    context.metric("frames", Double(latents.shape[0]))
    context.metric("mean", mean)
    context.metric("rms", square.squareRoot())
    let bytes = Safetensors.encode(
      ["latents": latents], metadata: ["frames_per_second": "\(Double(rate) / Double(encoder.hop))"])
    try context.emit("latents", files: [ModelFiles.latents: .bytes(bytes)])
  }
}
