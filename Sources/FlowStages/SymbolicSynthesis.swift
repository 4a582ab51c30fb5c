import FlowAudio
import FlowScore
import FlowStageKit
import Foundation

/// Renders a score's accompaniment through FluidSynth.
struct SymbolicSynthesis: Stage {
  static let name = "symbolic-synthesis"
  struct Parameters: Decodable, Sendable {
    var soundfont: String
    var reverb: Double
    var chorus: Double
    var gain: Double
    var tail: Double
    var promptTemplate: String
    enum CodingKeys: String, CodingKey {
      case soundfont, reverb, chorus, gain, tail
      case promptTemplate = "prompt_template"
    }
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let source = try context.input("score")
    let path = try source.path(extensions: ArtifactType.score.sourceExtensions)
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    let score: Score
    do {
      if path.hasSuffix(".abc") {
        guard let text = String(validating: data, as: UTF8.self) else {
          throw ItemRejected("the score is not UTF-8 text")
        }
        score = try ABCReader.read(text)
      } else {
        score = try MIDIReader.read([UInt8](data))
      }
    } catch let error as ScoreError {
      throw ItemRejected("the score can't be read: \(error)")
    }
    let (notes, programs): ([Score.Note], [Int: Int]) =
      score.chords.isEmpty
      ? (score.notes.filter { !score.hasMelody || $0.channel != 0 }, score.programs)
      : Arranger.accompany(score)
    let prompt = try PromptTemplate(parameters.promptTemplate).filled(
      source, score.promptValues(notes, programs))
    var renderer = Renderer(soundfont: parameters.soundfont)
    renderer.reverb = parameters.reverb
    renderer.chorus = parameters.chorus
    renderer.gain = parameters.gain
    let length = Int((score.duration + parameters.tail) * Double(renderer.sampleRate))
    var samples = [Float](repeating: 0, count: length)
    if !notes.isEmpty {
      do {
        let rendered = try renderer.render(notes, programs: programs, tail: parameters.tail + score.duration)
        for i in 0..<min(length, rendered.count) { samples[i] = rendered[i] }
      } catch { throw StageFailure("\(error)") }
    }
    let audio = AudioBuffer(samples, sampleRate: renderer.sampleRate)
    context.log("\(score.title): \(prompt), \(notes.count) notes of accompaniment")
    try context.emit("audio", files: [Files.audio: context.file(audio, Files.audio)])
    try context.emit("score", files: ["score.json": context.file(score)])
    try context.emit("prompts", files: ["prompt.txt": .text(prompt)])
  }
}
