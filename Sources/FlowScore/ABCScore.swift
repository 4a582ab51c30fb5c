import Foundation

/// From what was read to a score in seconds.
extension ABCReader.Tune {
  /// Gives the notes of the last music line their syllables (standard 2.1, section 5.1).
  mutating func align(_ text: String) {
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
