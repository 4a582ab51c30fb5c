import FlowModels
import FlowStageKit
import Foundation

/// The words of a song, as stages exchange them in `lyrics.json`.
struct LyricsFile: Codable {
  struct Line: Codable {
    /// A structure tag of the model, such as `[verse]`; then there are no words.
    var tag: String?
    var text: String?
    /// Phones in the model's symbols, words apart by "_"; empty when they are not known.
    var phones: [String]?
    /// Seconds at which it is sung, if they are known.
    var start: Double?
  }
  var lines: [Line]

  /// The token ids (spec 9.1), which begin with [start] and end with [end]. Lines without phones are spelled.
  var ids: [Int32] {
    var ids: [Int32] = []
    for line in lines {
      let text = (line.text ?? "").trimmingCharacters(in: .whitespaces)
      if let tag = LyricTokens.tag(line.tag ?? text) {
        ids += tag
        continue
      }
      let known = line.phones ?? []
      let phones = known.isEmpty ? LyricTokens.spelled(text) : known
      if !phones.isEmpty { ids += LyricTokens.line(phones).ids }
    }
    let (start, end) = (LyricTokens.tag("[start]") ?? [], LyricTokens.tag("[end]") ?? [])
    return (ids.starts(with: start) ? [] : start) + ids + (ids.suffix(2) == end[...] ? [] : end)
  }
}
