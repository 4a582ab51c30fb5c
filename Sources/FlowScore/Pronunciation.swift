/// English syllables to phones, in the symbols of DiffRhythm 2's vocabulary: a small lexicon (the demo's words and common
/// ones), and spelling rules for the rest.
public enum Pronunciation {
  /// Words as their syllables joined by "-"; phones of a syllable apart by blanks, syllables by "|".
  private static let lexicon: [String: String] = [
    "a": "ə", "a-bove": "ə | b ʌ v", "a-la-ba-ma": "æ | l ə | b æ | m ə", "a-maz-ing": "ə | m eɪ | z ɪ ŋ",
    "and": "æ n d",
    "are": "ɑːɹ", "as": "æ z", "ban-jo": "b æ n | dʒ oʊ", "bells": "b ɛ l z", "boat": "b oʊ t",
    "bridge": "b ɹ ɪ dʒ",
    "bro-ther": "b ɹ ʌ | ð ɚ", "but": "b ʌ t", "come": "k ʌ m", "dang": "d æ ŋ", "dar-ling": "d ɑːɹ | l ɪ ŋ",
    "ding": "d ɪ ŋ",
    "dia-mond": "d aɪ | m ə n d", "do": "d uː", "dong": "d ɔ ŋ", "down": "d aʊ n", "dream": "d ɹ iː m",
    "drun-ken": "d ɹ ʌ ŋ | k ə n", "ear-ly": "ɜː | l i", "fair": "f ɛɹ", "fall-ing": "f ɔː | l ɪ ŋ",
    "fleece": "f l iː s",
    "for": "f ɔːɹ", "from": "f ɹ ʌ m", "gen-tly": "dʒ ɛ n t | l i", "go-ing": "ɡ oʊ | ɪ ŋ",
    "grace": "ɡ ɹ eɪ s", "had": "h æ d",
    "high": "h aɪ", "how": "h aʊ", "i": "aɪ", "i'm": "aɪ m", "in": "ɪ n", "is": "ɪ z", "its": "ɪ t s",
    "john": "dʒ ɑː n",
    "knee": "n iː", "la-dy": "l eɪ | d i", "lamb": "l æ m", "life": "l aɪ f", "like": "l aɪ k",
    "lit-tle": "l ɪ | t l",
    "lon-don": "l ʌ n | d ə n", "lou": "l uː", "lou-si-an-a": "l uː | z i | æ | n ə", "love": "l ʌ v",
    "ma-ry": "m ɛɹ | i",
    "me": "m iː", "mer-ri-ly": "m ɛ | ɹ ɪ | l i", "morn-ing": "m ɔːɹ | n ɪ ŋ", "my": "m aɪ", "oh": "oʊ",
    "on": "ɑː n",
    "ring-ing": "ɹ ɪ | ŋ ɪ ŋ", "row": "ɹ oʊ", "sai-lor": "s eɪ | l ɚ", "saved": "s eɪ v d", "see": "s iː",
    "shall": "ʃ æ l",
    "skip": "s k ɪ p", "sky": "s k aɪ", "sleep-ing": "s l iː | p ɪ ŋ", "snow": "s n oʊ", "so": "s oʊ",
    "sound": "s aʊ n d",
    "star": "s t ɑːɹ", "stream": "s t ɹ iː m", "sweet": "s w iː t", "that": "ð æ t", "the": "ð ə",
    "to": "t uː", "true": "t ɹ uː",
    "twin-kle": "t w ɪ ŋ | k l", "up": "ʌ p", "was": "w ʌ z", "we": "w iː", "what": "w ʌ t",
    "white": "w aɪ t", "with": "w ɪ θ",
    "won-der": "w ʌ n | d ɚ", "world": "w ɜː l d", "wretch": "ɹ ɛ tʃ", "you": "j uː", "your": "j ʊɹ",
    "la": "l ɑː",
  ]

  /// Spellings, the longest first, and the phones they usually stand for.
  private static let rules: [(String, [String])] = [
    ("tch", ["tʃ"]), ("igh", ["aɪ"]), ("ough", ["oʊ"]), ("sh", ["ʃ"]), ("ch", ["tʃ"]), ("th", ["θ"]),
    ("ph", ["f"]),
    ("wh", ["w"]), ("ng", ["ŋ"]), ("ck", ["k"]), ("qu", ["k", "w"]), ("ee", ["iː"]), ("ea", ["iː"]),
    ("oo", ["uː"]),
    ("ou", ["aʊ"]), ("ow", ["oʊ"]), ("oa", ["oʊ"]), ("ai", ["eɪ"]), ("ay", ["eɪ"]), ("oi", ["ɔɪ"]),
    ("oy", ["ɔɪ"]),
    ("ar", ["ɑːɹ"]), ("er", ["ɚ"]), ("ir", ["ɜː"]), ("or", ["ɔːɹ"]), ("ur", ["ɜː"]), ("kn", ["n"]),
    ("wr", ["ɹ"]),
    ("ll", ["l"]), ("ss", ["s"]), ("tt", ["t"]), ("nn", ["n"]), ("mm", ["m"]), ("rr", ["ɹ"]), ("pp", ["p"]),
    ("ff", ["f"]),
    ("a", ["æ"]), ("b", ["b"]), ("c", ["k"]), ("d", ["d"]), ("e", ["ɛ"]), ("f", ["f"]), ("g", ["ɡ"]),
    ("h", ["h"]),
    ("i", ["ɪ"]), ("j", ["dʒ"]), ("k", ["k"]), ("l", ["l"]), ("m", ["m"]), ("n", ["n"]), ("o", ["ɑː"]),
    ("p", ["p"]),
    ("r", ["ɹ"]), ("s", ["s"]), ("t", ["t"]), ("u", ["ʌ"]), ("v", ["v"]), ("w", ["w"]), ("x", ["k", "s"]),
    ("y", ["i"]),
    ("z", ["z"]),
  ]

  /// The phones of each syllable of a word; a syllable always has something to sing.
  public static func phones(ofSyllables syllables: [String]) -> [[String]] {
    let key = syllables.joined(separator: "-").lowercased().filter { $0.isLetter || $0 == "-" || $0 == "'" }
    if let entry = lexicon[key] {
      let parts = entry.split(separator: "|").map { $0.split(separator: " ").map(String.init) }
      if parts.count == syllables.count { return parts }
    }
    return syllables.map { lexicon[$0.lowercased()]?.split(separator: " ").map(String.init) ?? spelled($0) }
  }

  static func spelled(_ syllable: String) -> [String] {
    var rest = Substring(syllable.lowercased().filter(\.isLetter))
    if rest.count > 2, rest.hasSuffix("e"), !rest.hasSuffix("ee") { rest = rest.dropLast() }
    var result: [String] = []
    while !rest.isEmpty {
      if let (spelling, phones) = rules.first(where: { rest.hasPrefix($0.0) }) {
        result += phones
        rest = rest.dropFirst(spelling.count)
      } else {
        rest = rest.dropFirst()
      }
    }
    return result.contains { Phone.table[$0]?.kind == .vowel } ? result : result + ["ə"]
  }
}

/// How a phone sounds.
struct Phone {
  enum Kind { case vowel, voiced, fricative, voicedFricative, plosive, voicedPlosive }
  let kind: Kind
  /// The first three formants, Hz (adult averages after Peterson & Barney 1952, Hillenbrand et al. 1995).
  let formants: [Double]
  /// Where a diphthong or an r-coloured vowel ends.
  var glide: [Double]?
  /// Centre and width of the noise, Hz.
  var noise: (centre: Double, width: Double)?
  /// Seconds of a consonant.
  var length = 0.07

  static let table: [String: Phone] = {
    var t: [String: Phone] = [:]
    func vowel(_ name: String, _ f: [Double], _ glide: [Double]? = nil) {
      t[name] = Phone(kind: .vowel, formants: f, glide: glide)
    }
    let (schwa, i, u, r) = (
      [500.0, 1500, 2500], [310.0, 2300, 3000], [330.0, 950, 2300], [470.0, 1350, 1700]
    )
    vowel("iː", i)
    vowel("i", i)
    vowel("ɪ", [430, 2000, 2600])
    vowel("ɛ", [580, 1850, 2550])
    vowel("æ", [720, 1750, 2450])
    vowel("ʌ", [660, 1200, 2500])
    vowel("ɑː", [760, 1130, 2500])
    vowel("ɔː", [590, 880, 2500])
    vowel("ɔ", [600, 920, 2500])
    vowel("ʊ", [450, 1050, 2350])
    vowel("uː", u)
    vowel("ɜː", r)
    vowel("ɚ", r)
    vowel("ə", schwa)
    vowel("eɪ", [520, 1950, 2600], i)
    vowel("aɪ", [740, 1250, 2500], i)
    vowel("ɔɪ", [570, 900, 2500], i)
    vowel("aʊ", [740, 1250, 2500], u)
    vowel("oʊ", [530, 1000, 2400], u)
    vowel("ɑːɹ", [740, 1150, 2400], r)
    vowel("ɔːɹ", [560, 900, 2400], r)
    vowel("ɛɹ", [560, 1800, 2400], r)
    vowel("ɪɹ", [400, 2000, 2500], r)
    vowel("ʊɹ", [450, 1050, 2300], r)
    func voiced(_ name: String, _ f: [Double], _ length: Double = 0.08) {
      t[name] = Phone(kind: .voiced, formants: f, length: length)
    }
    voiced("m", [280, 1100, 2100])
    voiced("n", [280, 1600, 2500])
    voiced("ŋ", [280, 2000, 2600])
    voiced("l", [370, 1050, 2700], 0.07)
    voiced("ɹ", [400, 1200, 1600], 0.08)
    voiced("w", [320, 700, 2200], 0.08)
    voiced("j", [290, 2200, 2900], 0.07)
    func noisy(_ name: String, _ kind: Kind, _ centre: Double, _ width: Double, _ length: Double) {
      t[name] = Phone(kind: kind, formants: schwa, noise: (centre, width), length: length)
    }
    noisy("s", .fricative, 6800, 2500, 0.10)
    noisy("ʃ", .fricative, 3400, 1800, 0.10)
    noisy("f", .fricative, 6000, 6000, 0.08)
    noisy("θ", .fricative, 6500, 5000, 0.08)
    noisy("h", .fricative, 1500, 2500, 0.06)
    noisy("z", .voicedFricative, 6500, 2500, 0.08)
    noisy("ʒ", .voicedFricative, 3300, 1800, 0.08)
    noisy("v", .voicedFricative, 5500, 5000, 0.06)
    noisy("ð", .voicedFricative, 5500, 5000, 0.05)
    noisy("p", .plosive, 1200, 2000, 0.08)
    noisy("t", .plosive, 5000, 3000, 0.08)
    noisy("k", .plosive, 2200, 1500, 0.09)
    noisy("tʃ", .plosive, 3500, 2000, 0.11)
    noisy("b", .voicedPlosive, 900, 1500, 0.06)
    noisy("d", .voicedPlosive, 4000, 3000, 0.06)
    noisy("ɡ", .voicedPlosive, 2000, 1500, 0.07)
    noisy("dʒ", .voicedPlosive, 3300, 2000, 0.09)
    return t
  }()
}
