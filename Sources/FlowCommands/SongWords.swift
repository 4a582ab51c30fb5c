import ArgumentParser
import FlowCore
import FlowEngine
import FlowStages
import Foundation

/// What is sung: lyrics, or token ids.
struct SongWords: ParsableArguments {
  @Option(help: "The lyrics: plain text or LRC, a line per line, with tags such as [verse].") var lyrics:
    String?
  @Option(help: "A file of token ids instead, apart by blanks, commas or lines, taken as they are.")
  var tokens: String?

  @Flag(help: "Leaves out what can't be sung instead of refusing the lyrics.") var skipUnknown = false

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
    return try SongWords.reading(lyrics, skipsUnknown: skipUnknown).ids
  }

  /// The lyrics in the file `path`; what is left out of them, and by what English was read, is said on standard error.
  static func reading(_ path: String, skipsUnknown: Bool) throws -> LyricTexts.Reading {
    let espeak = Programs.find("espeak-ng")
    let reading: LyricTexts.Reading
    do { reading = try LyricTexts.read(read(path), file: path, espeak: espeak) } catch let error as Diagnostic
    {
      throw Diagnostics([error])
    }
    guard reading.problems.isEmpty || skipsUnknown else {
      throw Diagnostics(Array(reading.problems.prefix(20)))
    }
    let terminal = Terminal()
    for var problem in reading.problems {
      problem.severity = .warning
      Terminal.error(terminal.render(problem))
    }
    if reading.linesByRules > 0 {
      Terminal.error(
        "\(path): espeak-ng is not there, English by flow's own rules (sudo apt-get install espeak-ng)")
    }
    return reading
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
