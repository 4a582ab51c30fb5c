/// Scores made of scores: other keys and other tempi.
extension Score {
  /// The score `semitones` higher: notes (but drums), chords and key. Pitches that leave MIDI's range move by octaves.
  public func transposed(by semitones: Int) -> Score {
    guard semitones != 0 else { return self }
    var score = self
    for i in notes.indices where notes[i].channel != 9 {
      var pitch = notes[i].pitch + semitones
      while pitch < 0 { pitch += 12 }
      while pitch > 127 { pitch -= 12 }
      score.notes[i].pitch = pitch
    }
    for i in chords.indices { score.chords[i].name = Score.transposed(chords[i].name, by: semitones) }
    score.key = Score.transposed(key, by: semitones)
    return score
  }

  /// The score at `tempo` quarter notes a minute.
  public func at(tempo: Double) -> Score {
    guard tempo > 0, tempo.isFinite, self.tempo > 0 else { return self }
    var score = self
    let factor = self.tempo / tempo
    for i in notes.indices {
      score.notes[i].start *= factor
      score.notes[i].duration *= factor
    }
    for i in chords.indices {
      score.chords[i].start *= factor
      score.chords[i].duration *= factor
    }
    score.beat *= factor
    score.pickup *= factor
    score.tempo = tempo
    return score
  }

  private static let names = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]

  /// A chord's or key's name with its root, and a bass after a slash, moved.
  private static func transposed(_ name: String, by semitones: Int) -> String {
    func moved(_ part: Substring) -> String {
      guard let match = part.firstMatch(of: #/^([A-G])([#b]?)(.*)$/#) else { return String(part) }
      let natural = ["C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11][String(match.1)] ?? 0
      let root = natural + (match.2 == "#" ? 1 : match.2 == "b" ? -1 : 0) + semitones
      return names[(root % 12 + 12) % 12] + match.3
    }
    return name.split(separator: "/", omittingEmptySubsequences: false).map(moved).joined(separator: "/")
  }
}
