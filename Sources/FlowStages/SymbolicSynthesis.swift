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
    var melody: Melody
    var tempo: Double
    var transpose: Int
    var variants: Int
    var seed: Int
    enum CodingKeys: String, CodingKey {
      case soundfont, reverb, chorus, gain, tail, melody, tempo, transpose, variants, seed
      case promptTemplate = "prompt_template"
    }
  }
  enum Melody: String, Decodable, Sendable { case silent, played }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let source = try context.input("score")
    let path = try source.path(extensions: ArtifactType.score.sourceExtensions)
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    var score: Score
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
    if parameters.tempo > 0 { score = score.at(tempo: parameters.tempo) }
    try emit(score, "", context)
    var random = context.random("transposition")
    var left: [Int] = []
    for variant in 0..<parameters.variants {
      // Every transposition once before one comes again.
      if left.isEmpty {
        let range = -parameters.transpose...parameters.transpose
        left = range.filter { $0 != 0 || parameters.transpose == 0 }.shuffled(using: &random)
      }
      try emit(score.transposed(by: left.removeLast()), "~\(variant + 1)", context)
    }
  }

  /// Renders `score` and emits it as the item with the suffix `id`.
  private func emit(_ score: Score, _ id: String, _ context: StageContext) throws {
    var (notes, programs): ([Score.Note], [Int: Int]) =
      score.chords.isEmpty
      ? (score.notes.filter { !score.hasMelody || $0.channel != 0 }, score.programs)
      : Arranger.accompany(score)
    if parameters.melody == .played, !score.chords.isEmpty || score.hasMelody {
      notes += score.notes.filter { $0.channel == 0 }
      programs[0] = score.programs[0] ?? 0
    }
    let prompt = try PromptTemplate(parameters.promptTemplate).filled(
      context.input("score"), score.promptValues(notes, programs))
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
    try context.emit("audio", id: id, files: [Files.audio: context.file(audio, "audio\(id).wav")])
    try context.emit("score", id: id, files: ["score.json": context.file(score)])
    try context.emit("prompts", id: id, files: ["prompt.txt": .text(prompt)])
  }
}
