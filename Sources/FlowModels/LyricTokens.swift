/// The token ids that the transformer's table knows (spec 9): phones from 1, structure tags from 500, 0 for filler.
public enum LyricTokens {
  /// The filler, and all that the null branch sees.
  public static let filler: Int32 = 0
  /// Ends every line.
  public static let lineEnd: Int32 = 511
  /// The boundary of two words.
  public static let wordBoundary = "_"

  /// Tags by their text.
  public static let tags: [String: Int32] = [
    "[start]": 500, "[end]": 501, "[intro]": 502, "[verse]": 503, "[chorus]": 504, "[outro]": 505,
    "[inst]": 506,
    "[solo]": 507, "[bridge]": 508, "[hook]": 509, "[break]": 510, "[stop]": 511, "[space]": 512,
  ]

  // By bytes: the vocabulary has "ç" both composed and decomposed, which are equal as strings.
  private static let ids: [[UInt8]: Int32] = Dictionary(
    PhoneSymbols.all.enumerated().map { (Array($1.utf8), Int32($0 + 1)) },
    uniquingKeysWith: { first, _ in first })

  /// The number of phone symbols.
  public static var phoneCount: Int { PhoneSymbols.all.count }

  /// The id of a phone symbol; `nil` when the vocabulary lacks it.
  public static func id(ofPhone symbol: String) -> Int32? { ids[Array(symbol.utf8)] }

  /// The ids of a line's phones and the end of line; symbols that the vocabulary lacks are left out, as the reference
  /// does, and returned.
  public static func line(_ phones: [String]) -> (ids: [Int32], unknown: [String]) {
    var (result, unknown): ([Int32], [String]) = ([], [])
    for phone in phones {
      if let id = id(ofPhone: phone) { result.append(id) } else { unknown.append(phone) }
    }
    return (result + [lineEnd], unknown)
  }

  /// The ids of a tag line; `nil` when it isn't a tag.
  public static func tag(_ text: String) -> [Int32]? { tags[text].map { [$0, lineEnd] } }

  /// Phones of Latin text by spelling, letter for letter: for lyrics that come without phones. It knows nothing of
  /// pronunciation, it only keeps different words different.
  public static func spelled(_ text: String) -> [String] {
    var result: [String] = []
    for word in text.lowercased().split(whereSeparator: { $0.isWhitespace || $0 == "-" }) {
      let phones = word.compactMap { letters[$0] }
      if phones.isEmpty { continue }
      if !result.isEmpty { result.append(wordBoundary) }
      result += phones
    }
    return result
  }

  private static let letters: [Character: String] = [
    "a": "æ", "b": "b", "c": "k", "d": "d", "e": "ɛ", "f": "f", "g": "ɡ", "h": "h", "i": "ɪ", "j": "dʒ",
    "k": "k",
    "l": "l", "m": "m", "n": "n", "o": "oʊ", "p": "p", "q": "k", "r": "ɹ", "s": "s", "t": "t", "u": "ʌ",
    "v": "v",
    "w": "w", "x": "z", "y": "j", "z": "z",
  ]
}
