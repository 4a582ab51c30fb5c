import FlowAudio
import FlowScore
import FlowStageKit

/// Sings a score's melody.
struct Sing: Stage {
  static let name = "sing"
  struct Parameters: Decodable, Sendable {
    var vibrato: Double
    var formants: Double
    var jitter: Double
    var seed: Int
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let score = try context.input("score").json("score.json", Score.self)
    var singer = Singer()
    singer.vibratoDepth = parameters.vibrato
    singer.formantScale = parameters.formants
    singer.jitter = parameters.jitter
    let performance = singer.sing(score, duration: score.duration + 1, random: context.random("voice"))
    if !score.hasMelody { context.log("the score has no words: its first channel is sung on 'la'") }
    let audio = AudioBuffer(performance.samples, sampleRate: singer.sampleRate)
    try context.emit("vocals", files: [Files.vocals: context.file(audio, Files.vocals)])
    try context.emit(
      "f0", files: [Files.f0: context.file(PitchFile(step: performance.step, f0: performance.f0))])
    try context.emit("phones", files: ["phones.json": context.file(performance.phones)])
    // Lines of about eight words, as a singer breathes.
    let words = performance.words
    let lines = stride(from: 0, to: words.count, by: 8).map { start -> LyricsFile.Line in
      let part = words[start..<min(words.count, start + 8)]
      return LyricsFile.Line(
        text: part.map(\.text).joined(separator: " "),
        phones: Array(part.map(\.phones).joined(separator: ["_"])))
    }
    try context.emit("lyrics", files: ["lyrics.json": context.file(LyricsFile(lines: lines))])
  }
}
