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
    let weights = try context.input("weights")
    let encoder = try ModelFiles.config(weights, ModelFiles.encoderConfig, LatentEncoderConfig.self)
    let rate = try ModelFiles.config(weights, ModelFiles.decoderConfig, VocoderConfig.self).samplingRate
    let wave = try ModelFiles.wave(context.input("audio"), rate: rate)
    let store = try ModelFiles.store(weights, ModelFiles.encoder, threads: context.threads)
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
