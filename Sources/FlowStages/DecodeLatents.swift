import FlowAudio
import FlowModels
import FlowStageKit
import FlowTensor

/// `decode-latents`: latents [T, channels] to the wave that the decoder makes of them.
struct DecodeLatents: Stage {
  static let name = "decode-latents"
  struct Parameters: Decodable, Sendable {}
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let network = try NetworkFiles(context, "weights", .decoder)
    let config = try network.config(VocoderConfig.self)
    let latents = try ModelFiles.tensor(context.input("latents"), ModelFiles.latents, "latents")
    guard latents.shape.count == 2, latents.shape[0] > 0, latents.shape[1] == config.inChannels else {
      throw StageFailure(
        "the latents are \(latents.shape), the decoder wants [frames, \(config.inChannels)]",
        help: "bind 'weights' to the vocoder whose encoder made them")
    }
    let decoder = try VocoderDecoder(config, store: network.store(threads: context.threads), prefix: "")
    let wave = try decoder.decode(latents.columns())
    guard wave.allSatisfy(\.isFinite) else {
      throw StageFailure(
        "the decoder gives numbers that are none", help: "train the vocoder again, more slowly")
    }
    let audio = AudioBuffer(wave, sampleRate: config.samplingRate)
    context.metric("peak", Double(audio.peak))
    try context.emit("audio", files: [Files.audio: context.file(audio, Files.audio)])
  }
}
