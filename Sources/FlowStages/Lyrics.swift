import FlowCore
import FlowStageKit
import Foundation

/// Reads the words of a song: tags, times, phones.
struct Lyrics: Stage {
  static let name = "lyrics"
  struct Parameters: Decodable, Sendable {
    /// The program's path; null where it isn't there.
    var espeak: JSON
    var unknown: Unknown
  }
  enum Unknown: String, Decodable, Sendable { case reject, drop }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let item = try context.input("lyrics")
    if item.has("lyrics.json") {
      let known = try item.json("lyrics.json", LyricsFile.self)
      guard known.lines.contains(where: { $0.tag == nil && ($0.phones ?? []).isEmpty }) else {
        return try context.emit("lyrics", files: ["lyrics.json": context.file(known)])
      }
      let text = known.lines.map { $0.tag ?? $0.text ?? "" }.joined(separator: "\n")
      return try emit(text, context)
    }
    let path = try item.path(extensions: ArtifactType.lyrics.sourceExtensions)
    guard let text = String(validating: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
    else { throw ItemRejected("the words are not UTF-8; save the file as UTF-8") }
    try emit(text, context)
  }

  private func emit(_ text: String, _ context: StageContext) throws {
    let espeak = parameters.espeak.text.flatMap { $0.isEmpty ? nil : $0 }
    let reading = try LyricTexts.read(text, file: "lyrics", espeak: espeak)
    let said = reading.problems.map { problem in
      let place = problem.location.map { "line \($0.line), column \($0.column): " } ?? ""
      return place + problem.message + (problem.help.map { "; \($0)" } ?? "")
    }
    if let first = said.first {
      guard parameters.unknown == .drop else {
        throw ItemRejected(first + (said.count > 1 ? " (and \(said.count - 1) more)" : ""))
      }
      for line in said { context.log("left out: \(line)") }
    }
    guard !reading.lines.isEmpty else { throw ItemRejected("there are no words in it") }
    if reading.linesByRules > 0 {
      context.log(
        "espeak-ng is not there: English by flow's own rules (sudo apt-get install espeak-ng knows more words)"
      )
    }
    context.metric("lines", Double(reading.lines.count))
    context.metric("lines_by_rules", Double(reading.linesByRules))
    context.metric("unknown", Double(said.count))
    try context.emit("lyrics", files: ["lyrics.json": context.file(reading.file)])
  }
}
