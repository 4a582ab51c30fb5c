import FlowAudio
import FlowStageKit

/// Splits voice and accompaniment, without weights.
struct Separate: Stage {
  static let name = "separate"
  struct Parameters: Decodable, Sendable {
    var similarFrames: Int
    var distance: Double
    var harmonicWidth: Double
    var leak: Double
    enum CodingKeys: String, CodingKey {
      case distance, leak
      case similarFrames = "similar_frames"
      case harmonicWidth = "harmonic_width"
    }
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let mixture = try context.input("audio").audio()
    var separator = VocalSeparator()
    separator.similarFrames = parameters.similarFrames
    separator.distance = parameters.distance
    separator.harmonicWidth = parameters.harmonicWidth
    separator.leak = parameters.leak
    let (vocals, accompaniment) = separator.separate(mixture)
    if let truth = context.optionalInput("truth") {
      let stem = try truth.audio(Files.vocals).mono
      let gain = Metrics.nsdr(vocals, truth: stem, mixture: mixture.mono)
      context.metric("voice_sdr_db", Metrics.sdr(vocals, truth: stem))
      context.metric("voice_nsdr_db", gain)
      context.log("voice \(gain) dB above the mixture taken as the voice")
    }
    let rate = mixture.sampleRate
    try context.emit(
      "vocals", files: [Files.vocals: context.file(AudioBuffer(vocals, sampleRate: rate), Files.vocals)])
    try context.emit(
      "accompaniment",
      files: [
        Files.accompaniment: context.file(AudioBuffer(accompaniment, sampleRate: rate), Files.accompaniment)
      ])
  }
}
