import Foundation

/// Reads one tune in ABC notation (standard 2.1, abcnotation.com): one voice with chord symbols, lyrics, keys and modes,
/// broken rhythm, tuplets, ties, repeats with two endings. Grace notes and decorations are skipped.
public enum ABCReader {
  /// Parses the first tune of `text`.
  /// - Throws: `ScoreError` with the line of what it can't read.
  public static func read(_ text: String) throws(ScoreError) -> Score {
    var tune = Tune()
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      try tune.take(line.trimmingCharacters(in: .whitespaces), line: index + 1)
    }
    return try tune.score()
  }

  struct Event {
    var length: Double  // whole notes
    var pitch: Int?
    var tied = false
    var syllable: String?
    var chord: String?
  }

  struct Tune {
    var title = "", genre = "tune", metre = (4, 4), unit: Double?, tempo = (0.25, 120.0), keyName = "C major"
    var signature: [Character: Int] = [:]
    var programs: [Int: Int] = [:]
    var events: [Event] = []
    var inBody = false
    var firstBar: Double?
    var lineStart = 0
    var repeatStart = 0
    var endingStart: Int?
    var barAccidentals: [String: Int] = [:]
    var pendingChord: String?

    init() {}

    mutating func take(_ line: String, line number: Int) throws(ScoreError) {
      if line.isEmpty || line.hasPrefix("%") {
        if line.hasPrefix("%%MIDI"), let values = Optional(line.split(separator: " ")), values.count >= 3,
          let program = Int(values[values.count - 1])
        {
          if values[1] == "chordprog" { programs[1] = program }
          if values[1] == "bassprog" { programs[2] = program }
          if values[1] == "program" { programs[0] = program }
        }
        return
      }
      let characters = Array(line)
      if characters.count > 1, characters[1] == ":", characters[0].isLetter {
        return try field(characters[0], String(characters[2...]).trimmingCharacters(in: .whitespaces), number)
      }
      guard inBody else { return }
      lineStart = events.count
      try music(characters, number)
    }

    mutating func field(_ name: Character, _ raw: String, _ number: Int) throws(ScoreError) {
      let value = (raw.split(separator: "%").first.map(String.init) ?? "").trimmingCharacters(
        in: .whitespaces)
      switch name {
      case "T": if title.isEmpty { title = value }
      case "R": genre = value
      case "M":
        if value == "C" {
          metre = (4, 4)
        } else if value == "C|" {
          metre = (2, 2)
        } else if value != "none" {
          let parts = value.split(separator: "/").compactMap { Int($0) }
          guard parts.count == 2, parts[0] > 0, parts[0] <= 64, [1, 2, 4, 8, 16, 32].contains(parts[1]) else {
            throw ScoreError("line \(number): the metre '\(value)' is not like 6/8")
          }
          metre = (parts[0], parts[1])
        }
      case "L":
        let parts = value.split(separator: "/").compactMap { Double($0) }
        guard parts.count == 2, parts[1] > 0 else {
          throw ScoreError("line \(number): the unit length '\(value)' is not like 1/8")
        }
        unit = parts[0] / parts[1]
      case "Q":
        let body = value.replacing(#/"[^"]*"/#, with: "").trimmingCharacters(in: .whitespaces)
        let parts = body.split(separator: "=")
        if parts.count == 2, let rate = Double(parts[1].trimmingCharacters(in: .whitespaces)), rate > 0 {
          let beat = parts[0].split(separator: " ").reduce(0.0) { sum, part in
            let pair = part.split(separator: "/").compactMap { Double($0) }
            return sum + (pair.count == 2 && pair[1] > 0 ? pair[0] / pair[1] : 0)
          }
          tempo = (beat > 0 ? beat : 0.25, rate)
        } else if let rate = Double(body), rate > 0 {
          tempo = (0.25, rate)
        }
      case "K":
        (keyName, signature) = ABCReader.key(value)
        inBody = true
      case "w": align(value)
      default: break
      }
    }
  }

  /// The name and the accidentals of a K: field, such as `D`, `Am`, `Ddor`.
  static func key(_ text: String) -> (String, [Character: Int]) {
    guard let match = text.firstMatch(of: #/^([A-G])([#b]?)\s*([A-Za-z]*)/#) else { return ("C major", [:]) }
    let mode = match.3.lowercased().prefix(3)
    let modes: [String: (name: String, fifths: Int)] = [
      "": ("major", 0), "maj": ("major", 0), "ion": ("major", 0), "m": ("minor", -3), "min": ("minor", -3),
      "aeo": ("minor", -3),
      "dor": ("dorian", -2), "phr": ("phrygian", -4), "lyd": ("lydian", 1), "mix": ("mixolydian", -1),
      "loc": ("locrian", -5),
    ]
    let found = modes[String(mode)] ?? ("major", 0)
    let tonic: [Character: Int] = ["F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5]
    let fifths =
      (tonic[match.1.first ?? "C"] ?? 0) + (match.2 == "#" ? 7 : (match.2 == "b" ? -7 : 0)) + found.fifths
    var signature: [Character: Int] = [:]
    let sharps = Array("FCGDAEB")
    for i in 0..<min(7, abs(fifths)) {
      signature[fifths > 0 ? sharps[i] : sharps[6 - i]] = fifths > 0 ? 1 : -1
    }
    return ("\(match.1)\(match.2) \(found.name)", signature)
  }
}
