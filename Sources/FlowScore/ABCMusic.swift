import Foundation

/// Lines of music: notes, rests, chords, bars, repeats.
extension ABCReader.Tune {
  /// Lengths default to 1/8, or 1/16 in metres under 3/4 (standard 2.1, section 3.1.7).
  private var unitLength: Double {
    unit ?? (Double(metre.0) / Double(metre.1) < 0.75 ? 1.0 / 16 : 1.0 / 8)
  }

  /// Reads a line of music.
  mutating func music(_ c: [Character], _ number: Int) throws(ScoreError) {
    var i = 0
    var broken: Double?
    var tuplet: (factor: Double, left: Int)?
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
        if let begun = beginTuplet(c, &i) { tuplet = begun }
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
          guard var event = try highestOfChord(c, &i, number) else { break }
          event.length *= length(c, &i)
          append(event, &broken, &tuplet)
        }
      case "z", "x", "Z":
        i += 1
        var event = ABCReader.Event(length: unitLength)
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
        broken = x == ">" ? half : 2 - half
      default:
        if Self.isNote(x) {
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

  private static func isNote(_ x: Character) -> Bool { "ABCDEFGabcdefg^_=".contains(x) }

  /// From a `(` on: `(p:q:r`, p notes in the time of q for the next r (standard 2.1, section 4.13); `nil` for a slur.
  private func beginTuplet(_ c: [Character], _ i: inout Int) -> (factor: Double, left: Int)? {
    i += 1
    guard i < c.count, let p = c[i].wholeNumberValue, p >= 2, p <= 9 else { return nil }
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
    return (Double(q) / Double(p), r)
  }

  /// From a `[` on, a chord of notes: the highest carries the melody.
  private mutating func highestOfChord(
    _ c: [Character], _ i: inout Int, _ number: Int
  ) throws(ScoreError) -> ABCReader.Event? {
    i += 1
    var best: ABCReader.Event?
    while i < c.count, c[i] != "]" {
      guard Self.isNote(c[i]) else {
        i += 1
        continue
      }
      let event = try note(c, &i, number)
      if (event.pitch ?? 0) > (best?.pitch ?? -1) { best = event }
    }
    i += 1
    return best
  }

  private mutating func append(
    _ event: ABCReader.Event, _ broken: inout Double?, _ tuplet: inout (factor: Double, left: Int)?
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

  private mutating func note(
    _ c: [Character], _ i: inout Int, _ number: Int
  ) throws(ScoreError) -> ABCReader.Event {
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
    return ABCReader.Event(length: unitLength * length(c, &i), pitch: pitch)
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
}
