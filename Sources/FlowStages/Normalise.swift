import FlowAudio
import FlowStageKit
import Foundation

/// Brings a song to one loudness, cuts silence at its ends, and to the rate that training wants.
struct Normalise: Stage {
  static let name = "normalise"
  struct Parameters: Decodable, Sendable {
    var loudness: Double
    var peak: Double
    var trim: Double
    var sampleRate: Int
    enum CodingKeys: String, CodingKey {
      case loudness, peak, trim
      case sampleRate = "sample_rate"
    }
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    var audio = try context.input("audio").audio()
    audio = audio.sliced(audio.trimmed(decibels: parameters.trim))
    guard audio.duration >= 0.5 else { throw ItemRejected("nothing is left after cutting silence") }
    do { audio = try audio.resampled(to: parameters.sampleRate) } catch { throw ItemRejected("\(error)") }
    let measured = Loudness(audio)
    guard measured.integrated > -70 else { throw ItemRejected("its loudness is below -70 LUFS") }
    // Loudness first, but never above the peak.
    let gain = min(parameters.loudness - measured.integrated, parameters.peak - measured.truePeak)
    audio = audio.scaled(Float(pow(10, gain / 20)))
    context.metric("loudness_lufs", measured.integrated + gain)
    try context.emit("audio", files: [Files.audio: context.file(audio, Files.audio)])
  }
}
