import Foundation

/// Mandarin characters to the phones of DiffRhythm 2's vocabulary. The reading of a character is that of ICU's
/// transliteration Han-Latin (Unicode CLDR), the commonest one: of characters with several readings the context is not asked.
public enum Mandarin {
  /// Whether it is a Han character.
  public static func isHan(_ character: Character) -> Bool {
    guard let scalar = character.unicodeScalars.first else { return false }
    return (0x3400...0x4DBF).contains(scalar.value) || (0x4E00...0x9FFF).contains(scalar.value)
      || scalar.value == 0x3007
  }

  /// The phones of each character; `nil` for one that has no reading. The tones of 一 and 不 follow their neighbours, but
  /// where 一 counts.
  public static func phones(_ text: String) -> [[String]?] {
    let characters = Array(text)
    var readings = characters.map { character -> (syllable: String, tone: Int)? in
      if character == "〇" { return ("ling", 2) }
      return String(character).applyingTransform(.mandarinToLatin, reverse: false).flatMap(reading)
    }
    for (i, character) in characters.enumerated() where character == "一" || character == "不" {
      guard i + 1 < characters.count, let next = readings[i + 1] else { continue }
      let isCounted =
        (i > 0 && "第一二三四五六七八九十〇零".contains(characters[i - 1]))
        || "一二三四五六七八九十〇零".contains(characters[i + 1])
      if character == "一", isCounted { continue }
      if next.tone == 4 {
        readings[i]?.tone = 2
      } else if character == "一", next.tone > 0 {
        readings[i]?.tone = 4
      }
    }
    return readings.map { reading in reading.flatMap { phones(syllable: $0.syllable, tone: $0.tone) } }
  }

  /// A syllable of pinyin with its tone mark, as letters and a tone from 1 to 4, or 0 for the neutral one.
  private static func reading(_ pinyin: String) -> (syllable: String, tone: Int)? {
    var (letters, tone) = ("", 0)
    for scalar in pinyin.decomposedStringWithCanonicalMapping.unicodeScalars {
      switch scalar.value {
      case 0x304: tone = 1
      case 0x301: tone = 2
      case 0x30C: tone = 3
      case 0x300: tone = 4
      case 0x308 where letters.last == "u": letters = letters.dropLast() + "v"
      case 0x61...0x7A: letters.unicodeScalars.append(scalar)
      default: return nil
      }
    }
    return letters.isEmpty ? nil : (letters, tone)
  }

  /// The phones of a syllable of pinyin (ü is v): an initial and a final with its tone, or one phone for both.
  static func phones(syllable: String, tone: Int) -> [String]? {
    let mark = ["", "→", "↑", "↓↑", "↓"][tone]
    if let whole = wholes[syllable] { return whole.dropLast() + [(whole.last ?? "") + mark] }
    let start = initials.keys.filter(syllable.hasPrefix).max { $0.count < $1.count } ?? ""
    guard let initial = initials[start] else { return nil }
    var rest = String(syllable.dropFirst(start.count))
    if ["j", "q", "x"].contains(start), rest.hasPrefix("u") { rest = "v" + rest.dropFirst() }
    return finals[rest].map { [initial, $0 + mark] }
  }

  private static let initials = [
    "b": "p⁼", "p": "pʰ", "m": "m", "f": "f", "d": "t⁼", "t": "tʰ", "n": "n", "l": "l", "g": "k⁼", "k": "kʰ",
    "h": "x", "j": "tʃ⁼", "q": "tʃʰ", "x": "ʃ", "zh": "ts`⁼", "ch": "ts`ʰ", "sh": "s`", "r": "ɹ`",
    "z": "ts⁼", "c": "tsʰ", "s": "s",
  ]

  /// What follows an initial.
  private static let finals = [
    "a": "a", "o": "o", "e": "ə", "ai": "aɪ", "ei": "eɪ", "ao": "ɑʊ", "ou": "oʊ", "an": "an", "en": "ən",
    "ang": "ɑŋ", "eng": "əŋ", "ong": "ʊŋ", "i": "i", "ia": "ia", "ie": "iɛ", "iao": "iɑʊ", "iu": "ioʊ",
    "ian": "jɛn", "in": "in", "iang": "iɑŋ", "ing": "iŋ", "iong": "jʊŋ", "u": "u", "ua": "ua", "uo": "uo",
    "uai": "uaɪ", "ui": "ueɪ", "uan": "uan", "un": "uən", "uang": "uɑŋ", "v": "ɥ", "ve": "ɥɛ", "ue": "ɥɛ",
    "van": "ɥæn", "vn": "ɥn",
  ]

  /// Syllables that are one phone, or have no initial.
  private static let wholes: [String: [String]] = [
    "bo": ["p⁼wo"], "po": ["pʰwo"], "mo": ["mwo"], "fo": ["fwo"], "zhi": ["ts`⁼ɹ"], "chi": ["ts`ʰɹ"],
    "shi": ["s`ɹ"], "ri": ["ɹ`ɹ"], "zi": ["ts⁼ɹ"], "ci": ["tsʰɹ"], "si": ["sɹ"], "a": ["a"], "o": ["o"],
    "e": ["ə"], "ai": ["aɪ"], "ei": ["eɪ"], "ao": ["ɑʊ"], "ou": ["oʊ"], "an": ["an"], "en": ["ən"],
    "ang": ["ɑŋ"], "eng": ["əŋ"], "er": ["əɹ"], "yi": ["i"], "ya": ["ia"], "yo": ["i", "o"], "ye": ["iɛ"],
    "yao": ["iɑʊ"], "you": ["ioʊ"], "yan": ["jɛn"], "yin": ["in"], "yang": ["iɑŋ"], "ying": ["iŋ"],
    "yong": ["jʊŋ"], "yu": ["ɥ"], "yue": ["ɥɛ"], "yuan": ["ɥæn"], "yun": ["ɥn"], "wu": ["u"], "wa": ["ua"],
    "wo": ["uo"], "wai": ["uaɪ"], "wei": ["ueɪ"], "wan": ["uan"], "wen": ["uən"], "wang": ["uɑŋ"],
    "weng": ["ʊŋ"], "ng": ["ən"], "n": ["ən"],
  ]
}
