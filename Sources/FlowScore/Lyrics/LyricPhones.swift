public import FlowCore
import Foundation

/// A line's words to phones: runs of Han characters by `Mandarin`, of Latin letters and numbers by espeak-ng, or by
/// `Pronunciation` where it isn't there; commas and ends of sentences as they are (spec 9.3).
public struct LyricPhones {
  /// espeak-ng; without it English words go by flow's own lexicon and rules.
  public let espeak: Espeak?
  private let isKnown: (String) -> Bool
  /// Between two English words.
  private static let boundary = "_"

  /// - Parameter isKnown: whether the model's vocabulary has a phone.
  public init(espeak: Espeak?, isKnown: @escaping (String) -> Bool) {
    self.espeak = espeak
    self.isKnown = isKnown
  }

  private enum Piece: Equatable { case han, latin, mark, blank, unknown }

  /// The phones of a line of words, and what in it can't be sung.
  /// - Throws: `Diagnostic` when espeak-ng fails.
  public func phones(
    _ line: LyricText.Line
  ) throws(Diagnostic) -> (phones: [String], problems: [Diagnostic]) {
    guard case .words(let text) = line.content else { return ([], []) }
    let characters = Array(text)
    let kinds = characters.map(kind)
    var (result, problems): ([String], [Diagnostic]) = ([], [])
    var index = 0
    while index < characters.count {
      let (start, kind) = (index, kinds[index])
      // Blanks within English belong to it: espeak-ng reads words by their neighbours.
      while index < characters.count, kinds[index] == kind || (kind == .latin && kinds[index] == .blank) {
        index += 1
        if kind == .mark { break }
      }
      let run = String(characters[start..<index])
      switch kind {
      case .blank: break
      case .mark: result += LyricPhones.marks[characters[start]].map { [$0] } ?? []
      case .unknown: problems.append(problem(run, line, start))
      case .han:
        for (offset, phones) in Mandarin.phones(run).enumerated() {
          if let phones {
            result += phones
          } else {
            problems.append(problem(String(characters[start + offset]), line, start + offset))
          }
        }
      case .latin:
        if let digit = run.firstIndex(where: \.isWholeNumber),
          espeak == nil || isBesideHan(kinds, start, index)
        {
          let offset = start + run.distance(from: run.startIndex, to: digit)
          problems.append(problem(run[digit...].prefix(while: \.isWholeNumber).description, line, offset))
        }
        let words = try english(run)
        if !result.isEmpty, !words.isEmpty, !isAfterHan(kinds, start) { result.append(LyricPhones.boundary) }
        result += words.joined(separator: [LyricPhones.boundary])
      }
    }
    for phone in Set(result).sorted() where !isKnown(phone) {
      problems.append(
        Diagnostic(
          code: "E062", "'\(phone)' is no phone that the model knows", at: line.place,
          sourceLine: line.source,
          label: "it came of these words", help: "spell the word in another way"))
    }
    return (result.filter(isKnown), problems)
  }

  private func english(_ run: String) throws(Diagnostic) -> [[String]] {
    let plain = String(run.map { kind($0) == .blank ? " " : $0 == "’" ? "'" : $0 })
      .folding(options: .diacriticInsensitive, locale: nil)
    guard plain.contains(where: { $0.isLetter || $0.isWholeNumber }) else { return [] }
    if let espeak { return try espeak.words(plain).map { Espeak.fitted($0, isKnown: isKnown) } }
    return plain.split(whereSeparator: \.isWhitespace).map { word in
      let word = word.filter { $0.isLetter || $0 == "'" }
      return word.isEmpty ? [] : Pronunciation.phones(ofSyllables: [word]).flatMap { $0 }
    }.filter { !$0.isEmpty }
  }

  private func isAfterHan(_ kinds: [Piece], _ start: Int) -> Bool {
    kinds[..<start].last { $0 != .blank } == .han
  }

  private func isBesideHan(_ kinds: [Piece], _ start: Int, _ end: Int) -> Bool {
    (start > 0 && kinds[start - 1] == .han) || (end < kinds.count && kinds[end] == .han)
  }

  private func kind(_ character: Character) -> Piece {
    if Mandarin.isHan(character) { return .han }
    if LyricPhones.marks[character] != nil { return .mark }
    if LyricPhones.silent.contains(character) || character.isWhitespace { return .blank }
    if character.isWholeNumber, character.isASCII { return .latin }
    if "'’".contains(character) { return .latin }
    let plain = String(character).folding(options: .diacriticInsensitive, locale: nil)
    return plain.unicodeScalars.allSatisfy { $0.isASCII && $0.properties.isAlphabetic } ? .latin : .unknown
  }

  /// What the vocabulary has a symbol for.
  private static let marks: [Character: String] = [
    ",": ",", "，": ",", "、": ",", ".": ".", "。": ".", "．": ".", "?": "?", "？": "?", "!": "!", "！": "!",
    ";": ";", "；": ";", ":": ":", "：": ":", "…": "…",
  ]

  /// What isn't sung.
  private static let silent = Set("\"“”„«»()（）{}-–—‐‑~～*_/\\|‘「」『』《》〈〉·♪♫♬\u{200B}\u{FEFF}\u{3000}")

  private func problem(_ text: String, _ line: LyricText.Line, _ offset: Int) -> Diagnostic {
    var place = line.place
    place.column += offset
    place.length = text.count
    if text.allSatisfy(\.isWholeNumber) {
      return Diagnostic(
        code: "E062", "the number '\(text)' has no reading here", at: place, sourceLine: line.source,
        label: "write it in words",
        help: espeak == nil ? "or sudo apt-get install espeak-ng, which reads English numbers" : nil)
    }
    let scalars = text.unicodeScalars.prefix(3).map { "U+" + String($0.value, radix: 16, uppercase: true) }
    let codes = scalars.joined(separator: " ") + (text.unicodeScalars.count > 3 ? " …" : "")
    let isBracket = text.allSatisfy { "[]<>".contains($0) }
    return Diagnostic(
      code: "E062", "'\(text)' (\(codes)) can't be sung", at: place, sourceLine: line.source,
      label: isBracket ? "a tag stands on a line of its own" : "Latin letters and Han characters can",
      help: isBracket
        ? "put the tag on a line of its own, or take the brackets away"
        : "write it in words, or take it away")
  }
}
