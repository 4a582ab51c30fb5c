import ArgumentParser
import FlowCore
import FlowStages
import Foundation

/// What is sung: lyrics, or token ids.
struct SongWords: ParsableArguments {
  @Option(help: "The lyrics: plain text or LRC, a line per line, with tags such as [verse].") var lyrics:
    String?
  @Option(help: "A file of token ids instead, apart by blanks, commas or lines, taken as they are.")
  var tokens: String?

  func validate() throws {
    if lyrics != nil, tokens != nil { throw ValidationError("--lyrics and --tokens are two texts; give one") }
  }

  /// The ids; none when neither is given.
  func ids() throws -> [Int32] {
    if let tokens {
      let text = try SongWords.read(tokens)
      return try text.split(whereSeparator: { $0.isWhitespace || $0 == "," }).map { word in
        guard let id = Int32(word) else {
          let before = text[..<word.startIndex]
          let line = before.count(where: \.isNewline) + 1
          let column = (before.lastIndex(where: \.isNewline).map { before[$0...].count } ?? before.count + 1)
          throw Diagnostics([
            Diagnostic(
              code: "E061", "'\(word)' is no token id",
              at: SourceLocation(file: tokens, line: line, column: column, length: word.count),
              sourceLine: text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)[
                line - 1],
              label: "a whole number is expected", help: "for words, use --lyrics")
          ])
        }
        return id
      }
    }
    guard let lyrics else { return [] }
    return try LyricTexts.ids(SongWords.read(lyrics))
  }

  static func read(_ path: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Diagnostics([Diagnostic(code: "E005", "can't read \(path)")])
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw Diagnostics([Diagnostic(code: "E006", "\(path) is not UTF-8")])
    }
    return text
  }
}
