import FlowAudio
import FlowStageKit
import Foundation

/// Takes a recording as it is: decodes it, brings it to one rate and one channel, reads the words beside it.
struct ImportAudio: Stage {
  static let name = "import-audio"
  struct Parameters: Decodable, Sendable {
    var sampleRate: Int
    var minimumSeconds: Double
    var promptTemplate: String
    enum CodingKeys: String, CodingKey {
      case sampleRate = "sample_rate"
      case minimumSeconds = "minimum_seconds"
      case promptTemplate = "prompt_template"
    }
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let source = try context.input("audio")
    let audio = try source.audio()
    guard audio.duration >= parameters.minimumSeconds else {
      throw ItemRejected(
        String(format: "%.2f s is shorter than %.2f s", audio.duration, parameters.minimumSeconds))
    }
    guard audio.peak > 1e-5 else { throw ItemRejected("it is silent") }
    let prompt = try PromptTemplate(parameters.promptTemplate).filled(source)
    let mono = AudioBuffer(audio.mono, sampleRate: audio.sampleRate)
    let out: AudioBuffer
    do { out = try mono.resampled(to: parameters.sampleRate) } catch { throw ItemRejected("\(error)") }
    try context.emit("audio", files: [Files.audio: context.file(out, Files.audio)])
    var lines: [LyricsFile.Line] = []
    if let path = try? source.path(extensions: ArtifactType.lyrics.sourceExtensions),
      let text = String(validating: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
    {
      for line in text.split(separator: "\n") {
        let words = line.replacing(#/\[[0-9:.]+\]/#, with: "").trimmingCharacters(in: .whitespaces)
        if !words.isEmpty { lines.append(LyricsFile.Line(text: words, phones: [])) }
      }
    }
    try context.emit("lyrics", files: ["lyrics.json": context.file(LyricsFile(lines: lines))])
    try context.emit("prompts", files: ["prompt.txt": .text(prompt)])
  }
}
