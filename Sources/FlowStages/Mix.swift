import FlowAudio
import FlowStageKit
import Foundation

/// Puts voice and accompaniment together at known gains; the stems travel along as the truth.
struct Mix: Stage {
  static let name = "mix"
  struct Parameters: Decodable, Sendable {
    var vocalsGain: Double
    var accompanimentGain: Double
    enum CodingKeys: String, CodingKey {
      case vocalsGain = "vocals_gain"
      case accompanimentGain = "accompaniment_gain"
    }
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let voice = try context.input("vocals").audio()
    let backing = try context.input("accompaniment").audio()
    guard voice.sampleRate == backing.sampleRate else {
      throw ItemRejected(
        "voice at \(voice.sampleRate) Hz and accompaniment at \(backing.sampleRate) Hz don't mix")
    }
    let count = max(voice.count, backing.count)
    func stem(_ audio: AudioBuffer, _ decibels: Double) -> [Float] {
      let factor = Float(pow(10, decibels / 20))
      return audio.mono.map { $0 * factor } + [Float](repeating: 0, count: count - audio.count)
    }
    var vocals = stem(voice, parameters.vocalsGain)
    var accompaniment = stem(backing, parameters.accompanimentGain)
    let peak = zip(vocals, accompaniment).reduce(0) { max($0, abs($1.0 + $1.1)) }
    if peak > 0.95 {
      for i in 0..<count {
        vocals[i] *= 0.95 / peak
        accompaniment[i] *= 0.95 / peak
      }
    }
    let mixture = zip(vocals, accompaniment).map { $0 + $1 }
    let rate = voice.sampleRate
    try context.emit(
      "audio", files: [Files.audio: context.file(AudioBuffer(mixture, sampleRate: rate), Files.audio)])
    try context.emit(
      "stems",
      files: [
        Files.vocals: context.file(AudioBuffer(vocals, sampleRate: rate), Files.vocals),
        Files.accompaniment: context.file(AudioBuffer(accompaniment, sampleRate: rate), Files.accompaniment),
      ])
  }
}
