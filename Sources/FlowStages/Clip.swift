import FlowAudio
import FlowStageKit

/// `clip`: a recording in clips of one length.
struct Clip: Stage {
  static let name = "clip"
  struct Parameters: Decodable, Sendable {
    var seconds: Double
    var least: Double
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let audio = try context.input("audio").audio()
    let length = max(1, Int(parameters.seconds * Double(audio.sampleRate)))
    let least = Int(parameters.least * Double(audio.sampleRate))
    let starts = stride(from: 0, to: audio.count, by: length).filter { $0 == 0 || audio.count - $0 >= least }
    for (index, start) in starts.enumerated() {
      let clip = audio.sliced(start..<min(start + length, audio.count))
      try context.emit(
        "audio", id: index == 0 ? "" : "~clip\(index)",
        files: [Files.audio: context.file(clip, "clip\(index).wav")])
    }
    context.metric("clips", Double(starts.count))
  }
}
