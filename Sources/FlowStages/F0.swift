import FlowAudio
import FlowStageKit
import Foundation

/// Fundamental frequency by probabilistic YIN, with a picture.
struct F0: Stage {
  static let name = "f0"
  struct Parameters: Decodable, Sendable {
    var fmin: Double
    var fmax: Double
    var frame: Int
    var hop: Int
  }
  let parameters: Parameters

  init(parameters: Parameters) throws {
    guard parameters.fmax > parameters.fmin else {
      throw StageFailure("fmax (\(parameters.fmax) Hz) must be above fmin (\(parameters.fmin) Hz)")
    }
    self.parameters = parameters
  }

  func run(_ context: StageContext) throws {
    let audio = try context.input("audio").audio()
    var tracker = PYIN(fmin: parameters.fmin, fmax: parameters.fmax)
    tracker.frame = parameters.frame
    tracker.hop = parameters.hop
    let track: PYIN.Track
    do { track = try tracker.track(audio.mono, sampleRate: audio.sampleRate) } catch {
      throw ItemRejected("\(error)")
    }
    let pitch = zip(track.refined, track.voiced).map { $1 ? $0 : 0 }
    let share = Double(track.voiced.filter { $0 }.count) / Double(max(1, track.voiced.count))
    context.metric("voiced_share", share)
    var table = "time_s,f0_hz,voiced,probability\n"
    for i in pitch.indices {
      table += String(
        format: "%.5f,%.3f,%d,%.4f\n", Double(i) * track.step, pitch[i], track.voiced[i] ? 1 : 0,
        track.probability[i])
    }
    try context.emit(
      "f0",
      files: [
        Files.f0: context.file(PitchFile(step: track.step, f0: pitch)), "f0.csv": .text(table),
        "f0.png": .bytes(Picture.spectrogram(audio, pitch: pitch, step: track.step)),
      ])
  }
}
