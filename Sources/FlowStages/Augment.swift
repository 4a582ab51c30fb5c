import FlowAudio
import FlowCore
import FlowStageKit
import Foundation

/// Makes variants of a song: pitch shifted, stretched, with noise at a drawn ratio. The original comes first.
struct Augment: Stage {
  static let name = "augment"
  struct Parameters: Decodable, Sendable {
    var variants: Int
    var semitones: Double
    var stretch: Double
    var snr: [Double]
    var mix: Double
    var seed: Int
  }
  let parameters: Parameters

  init(parameters: Parameters) throws {
    guard parameters.snr.count == 2, parameters.snr[0] <= parameters.snr[1] else {
      throw StageFailure("snr must be two numbers, the lower first")
    }
    self.parameters = parameters
  }

  func run(_ context: StageContext) throws {
    guard parameters.mix == 0 || !context.items("others").isEmpty else {
      throw StageFailure("there is nothing to mix with", help: "bind the input 'others', or set 'mix' to 0")
    }
    let own = try context.input("audio").item.files
    let audio = try context.input("audio").audio()
    try context.emit("audio", files: [Files.audio: context.file(audio, Files.audio)])
    for variant in 0..<parameters.variants {
      try context.checkCancelled()
      var random = context.random("variant \(variant)")
      let semitones = random.uniform(-parameters.semitones...parameters.semitones)
      let rate = random.uniform(1 / parameters.stretch...parameters.stretch)
      let snr = random.uniform(parameters.snr[0]...parameters.snr[1])
      var samples = audio.mono
      let vocoder = PhaseVocoder()
      do { samples = try vocoder.shifted(samples, semitones: semitones) } catch {
        throw ItemRejected("\(error)")
      }
      samples = vocoder.stretched(samples, rate: rate)
      // Drawn apart, so that a song without others stays as it was.
      var others = context.random("mix \(variant)")
      let songs = context.items("others").filter { $0.item.files != own }
      if others.uniform() < parameters.mix, !songs.isEmpty {
        let other = try songs[Int(others.uniform() * Double(songs.count))].audio()
          .resampled(to: audio.sampleRate)
        samples = Mixing.atSNR(samples, noise: other.mono, decibels: others.uniform(3...12))
      }
      let noise = (0..<samples.count).map { _ in Float(random.normal()) }
      samples = Mixing.atSNR(samples, noise: noise, decibels: snr)
      let peak = samples.reduce(0) { max($0, abs($1)) }
      if peak > 0.99 { samples = samples.map { $0 * 0.99 / peak } }
      context.log(
        String(
          format: "variant %d: %+.2f semitones, rate %.3f, SNR %.1f dB", variant + 1, semitones, rate, snr))
      let name = "variant\(variant).wav"
      try context.emit(
        "audio", id: "~\(variant + 1)",
        files: [Files.audio: context.file(AudioBuffer(samples, sampleRate: audio.sampleRate), name)])
      context.progress(Double(variant + 1) / Double(parameters.variants))
    }
  }
}
