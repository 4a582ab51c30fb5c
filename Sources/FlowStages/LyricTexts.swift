public import FlowCore
import FlowModels
import FlowScore

/// Lyrics as text to the model's tokens.
public enum LyricTexts {
  /// A line as the model sees it.
  public struct Line: Sendable {
    /// Its tag or words.
    public let text: String
    /// Its phones; empty for a tag.
    public let phones: [String]
    /// Seconds at which it is sung, if the text says so.
    public let start: Double?
  }

  /// What was read.
  public struct Reading: Sendable {
    /// The lines, in the order of singing.
    public let lines: [Line]
    /// The token ids, from [start] to [end].
    public let ids: [Int32]
    /// What can't be sung or understood; it is left out.
    public let problems: [Diagnostic]
    /// Lines whose English went by flow's rules, for want of espeak-ng.
    public let linesByRules: Int
    /// The same as stages exchange it.
    let file: LyricsFile
  }

  /// Reads plain text or LRC.
  /// - Parameters:
  ///   - file: its name, for messages.
  ///   - espeak: where espeak-ng is; without it English words go by flow's rules.
  /// - Throws: `Diagnostic` when espeak-ng fails.
  public static func read(_ text: String, file: String, espeak: String?) throws -> Reading {
    let parsed = LyricText(text, file: file, tags: LyricTokens.tags.keys)
    let words = LyricPhones(
      espeak: espeak.map(Espeak.init), isKnown: { LyricTokens.id(ofPhone: $0) != nil })
    var (lines, problems, byRules) = ([LyricsFile.Line](), parsed.problems, 0)
    for line in parsed.lines {
      switch line.content {
      case .tag(let tag): lines.append(LyricsFile.Line(tag: tag, start: line.start))
      case .words(let text):
        let (phones, unknown) = try words.phones(line)
        problems += unknown
        if espeak == nil, text.contains(where: { $0.isASCII && $0.isLetter }) { byRules += 1 }
        if !phones.isEmpty {
          lines.append(LyricsFile.Line(text: text, phones: phones, start: line.start))
        }
      }
    }
    problems.sort {
      ($0.location?.line ?? 0, $0.location?.column ?? 0) < ($1.location?.line ?? 0, $1.location?.column ?? 0)
    }
    let result = LyricsFile(lines: lines)
    return Reading(
      lines: lines.map { Line(text: $0.tag ?? $0.text ?? "", phones: $0.phones ?? [], start: $0.start) },
      ids: result.ids, problems: problems, linesByRules: byRules, file: result)
  }
}
