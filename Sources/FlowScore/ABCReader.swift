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
    private var lineStart = 0
    private var repeatStart = 0
    private var endingStart: Int?
    private var barAccidentals: [String: Int] = [:]
    private var position = 0.0
    private var pendingChord: String?

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

    private mutating func field(_ name: Character, _ raw: String, _ number: Int) throws(ScoreError) {
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

    /// Lengths default to 1/8, or 1/16 in metres under 3/4 (standard 2.1, section 3.1.7).
    private var unitLength: Double {
      unit ?? (Double(metre.0) / Double(metre.1) < 0.75 ? 1.0 / 16 : 1.0 / 8)
    }

    private mutating func music(_ c: [Character], _ number: Int) throws(ScoreError) {
      var i = 0
      var broken: Double?
      var tuplet: (factor: Double, left: Int)?
      func isNote(_ x: Character) -> Bool { "ABCDEFGabcdefg^_=".contains(x) }
      while i < c.count {
        let x = c[i]
        switch x {
        case "%": return
        case " ", "\t", "`", ")", ".", "\\", "y", "$", "*": i += 1
        // Decorations of one letter: ~ and those that U: may give a meaning (standard 2.1, section 4.14 and 4.16).
        case "~", "H"..."W", "h"..."w": i += 1
        case "\"":
          guard let end = c[(i + 1)...].firstIndex(of: "\"") else {
            throw ScoreError("line \(number): a chord symbol does not end")
          }
          let name = String(c[(i + 1)..<end])
          if let first = name.first, "ABCDEFG".contains(first) { pendingChord = name }
          i = end + 1
        case "!", "+":
          // A decoration between two marks; a mark alone is an old sign for a line's end.
          let end = c[(i + 1)...].firstIndex { $0 == x || $0 == "|" || $0 == " " }
          i = end.flatMap { c[$0] == x ? $0 + 1 : nil } ?? i + 1
        case "{":
          guard let end = c[i...].firstIndex(of: "}") else {
            throw ScoreError("line \(number): grace notes do not end")
          }
          i = end + 1
        case "(":
          i += 1
          guard i < c.count, let p = c[i].wholeNumberValue, p >= 2, p <= 9 else { break }
          let compound = metre.1 == 8 && metre.0 % 3 == 0
          let defaults: [Int: Int] = [
            2: 3, 3: 2, 4: 3, 5: compound ? 3 : 2, 6: 2, 7: compound ? 3 : 2, 8: 3, 9: compound ? 3 : 2,
          ]
          var numbers: [Int?] = [p]
          i += 1
          while i < c.count, c[i] == ":" {
            i += 1
            numbers.append(i < c.count ? c[i].wholeNumberValue : nil)
            if i < c.count, c[i].isNumber { i += 1 }
          }
          let q = (numbers.count > 1 ? numbers[1] : nil) ?? defaults[p] ?? 2
          let r = (numbers.count > 2 ? numbers[2] : nil) ?? p
          tuplet = (Double(q) / Double(p), r)
        case "|", ":":
          i = bar(c, i)
        case "[":
          if i + 1 < c.count, c[i + 1].isNumber || c[i + 1] == "|" {
            i = c[i + 1] == "|" ? bar(c, i + 1) : ending(c, i + 1)
          } else if i + 2 < c.count, c[i + 2] == ":" {
            guard let end = c[i...].firstIndex(of: "]") else {
              throw ScoreError("line \(number): an inline field does not end")
            }
            try field(c[i + 1], String(c[(i + 3)..<end]), number)
            i = end + 1
          } else {
            // A chord of notes: the highest carries the melody.
            i += 1
            var best: Event?
            while i < c.count, c[i] != "]" {
              guard isNote(c[i]) else {
                i += 1
                continue
              }
              let event = try note(c, &i, number)
              if (event.pitch ?? 0) > (best?.pitch ?? -1) { best = event }
            }
            i += 1
            guard var event = best else { break }
            event.length *= length(c, &i)
            append(event, &broken, &tuplet)
          }
        case "z", "x", "Z":
          i += 1
          var event = Event(length: unitLength)
          event.length =
            x == "Z" ? Double(metre.0) / Double(metre.1) * length(c, &i) : event.length * length(c, &i)
          append(event, &broken, &tuplet)
        case "-":
          if !events.isEmpty { events[events.count - 1].tied = true }
          i += 1
        case ">", "<":
          var steps = 0
          while i < c.count, c[i] == x {
            steps += 1
            i += 1
          }
          let half = pow(0.5, Double(steps))
          if !events.isEmpty { events[events.count - 1].length *= x == ">" ? 2 - half : half }
          position += 0
          broken = x == ">" ? half : 2 - half
        default:
          if isNote(x) {
            let event = try note(c, &i, number)
            append(event, &broken, &tuplet)
          } else if x.isNumber {
            i = ending(c, i)
          } else {
            throw ScoreError("line \(number), column \(i + 1): '\(x)' can't be read as ABC music")
          }
        }
      }
    }

    private mutating func append(
      _ event: Event, _ broken: inout Double?, _ tuplet: inout (factor: Double, left: Int)?
    ) {
      var event = event
      if let factor = broken { event.length *= factor }
      broken = nil
      if let (factor, left) = tuplet {
        event.length *= factor
        tuplet = left > 1 ? (factor, left - 1) : nil
      }
      event.chord = pendingChord
      pendingChord = nil
      events.append(event)
      if events.count > 100_000 { events.removeLast() }
    }

    private mutating func note(_ c: [Character], _ i: inout Int, _ number: Int) throws(ScoreError) -> Event {
      var accidental: Int?
      while i < c.count, "^_=".contains(c[i]) {
        accidental = (accidental ?? 0) + (c[i] == "^" ? 1 : (c[i] == "_" ? -1 : 0))
        i += 1
      }
      guard i < c.count, let step = "C.D.EF.G.A.B".firstIndex(of: Character(c[i].uppercased())), c[i].isLetter
      else {
        throw ScoreError("line \(number): an accidental without a note")
      }
      let letter = Character(c[i].uppercased())
      var octave = c[i].isLowercase ? 1 : 0
      let semitone = "C.D.EF.G.A.B".distance(from: "C.D.EF.G.A.B".startIndex, to: step)
      i += 1
      while i < c.count, c[i] == "'" || c[i] == "," {
        octave += c[i] == "'" ? 1 : -1
        i += 1
      }
      let place = "\(letter)\(octave)"
      if let accidental { barAccidentals[place] = accidental }
      let altered = accidental ?? barAccidentals[place] ?? signature[letter] ?? 0
      let pitch = 60 + semitone + 12 * octave + altered
      guard (0...127).contains(pitch) else {
        throw ScoreError("line \(number): a note outside the MIDI range")
      }
      return Event(length: unitLength * length(c, &i), pitch: pitch)
    }

    private func length(_ c: [Character], _ i: inout Int) -> Double {
      func digits() -> Double? {
        var text = ""
        while i < c.count, c[i].isASCII, c[i].isNumber, text.count < 4 {
          text.append(c[i])
          i += 1
        }
        return Double(text)
      }
      var value = digits() ?? 1
      while i < c.count, c[i] == "/" {
        i += 1
        value /= max(1, digits() ?? 2)
      }
      return value
    }

    private mutating func bar(_ c: [Character], _ start: Int) -> Int {
      var (i, text) = (start, "")
      while i < c.count, "|:]".contains(c[i]) {
        text.append(c[i])
        i += 1
      }
      if firstBar == nil, events.contains(where: { $0.pitch != nil }) {
        firstBar = events.reduce(0) { $0 + $1.length }
      }
      barAccidentals = [:]
      if text.hasPrefix(":") {
        let body = Array(events[repeatStart..<(endingStart ?? events.count)])
        events += body.map { event in
          var again = event
          again.tied = event.tied
          return again
        }
        if endingStart == nil { repeatStart = events.count }
      } else if endingStart != nil, text.contains("||") || text.contains("]") {
        endingStart = nil
        repeatStart = events.count
      }
      if text.hasSuffix(":"), text != ":" || text == "::" {
        repeatStart = events.count
        endingStart = nil
      }
      if i < c.count, c[i].isNumber { i = ending(c, i) }
      return i
    }

    private mutating func ending(_ c: [Character], _ start: Int) -> Int {
      var (i, text) = (start, "")
      while i < c.count, c[i].isNumber || ",-".contains(c[i]) {
        text.append(c[i])
        i += 1
      }
      if text.hasPrefix("1") { endingStart = events.count } else { endingStart = nil }
      return i
    }

    /// Gives the notes of the last music line their syllables (standard 2.1, section 5.1).
    private mutating func align(_ text: String) {
      var index = lineStart
      func next() -> Int? {
        while index < events.count, events[index].pitch == nil { index += 1 }
        defer { index += 1 }
        return index < events.count ? index : nil
      }
      for word in text.replacing("\\-", with: "\u{2011}").split(separator: " ") {
        if word == "|" { continue }
        var syllable = ""
        func flush(_ dash: Bool) {
          guard !syllable.isEmpty, let place = next() else { return }
          events[place].syllable = syllable.replacing("~", with: " ") + (dash ? "-" : "")
          syllable = ""
        }
        for x in word {
          switch x {
          case "-": flush(true)
          case "_":
            flush(false)
            if let place = next() { events[place].syllable = "_" }
          case "*":
            flush(false)
            _ = next()
          default: syllable.append(x)
          }
        }
        flush(false)
      }
    }

    func score() throws(ScoreError) -> Score {
      guard inBody else { throw ScoreError("there is no K: field, so no tune begins") }
      guard events.contains(where: { $0.pitch != nil }) else { throw ScoreError("the tune has no notes") }
      var score = Score()
      let whole = 60 / (tempo.0 * tempo.1)
      let compound = metre.1 == 8 && metre.0 % 3 == 0 && metre.0 > 3
      score.title = title
      score.genre = genre
      score.key = keyName
      score.metre = "\(metre.0)/\(metre.1)"
      score.tempo = 60 / (whole / 4)
      score.beatsPerBar = compound ? metre.0 / 3 : metre.0
      score.beat = whole / Double(metre.1) * (compound ? 3 : 1)
      score.programs = programs
      let bar = Double(metre.0) / Double(metre.1)
      if let first = firstBar, first < bar - 1e-9 { score.pickup = first * whole }
      var time = 0.0
      var joins = false
      for event in events {
        let seconds = event.length * whole
        if let name = event.chord {
          if !score.chords.isEmpty {
            score.chords[score.chords.count - 1].duration = time - score.chords[score.chords.count - 1].start
          }
          score.chords.append(Score.Chord(start: time, duration: seconds, name: name))
        }
        if let pitch = event.pitch {
          if joins, let last = score.notes.last, last.pitch == pitch {
            score.notes[score.notes.count - 1].duration += seconds
          } else {
            score.notes.append(
              Score.Note(
                start: time, duration: seconds, pitch: pitch, velocity: 90, channel: 0,
                syllable: event.syllable))
          }
        }
        joins = event.tied
        time += seconds
      }
      if !score.chords.isEmpty {
        score.chords[score.chords.count - 1].duration = time - score.chords[score.chords.count - 1].start
      }
      guard time < 3600 else { throw ScoreError("the tune is longer than an hour") }
      return score
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
