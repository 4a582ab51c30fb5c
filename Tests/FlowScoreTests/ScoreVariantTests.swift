import FlowScore
import Testing

@Suite struct ScoreVariantTests {
  private func score() throws -> Score {
    try ABCReader.read(
      "X:1\nT:t\nR:waltz\nM:3/4\nL:1/4\nQ:1/4=90\nK:G\n\"G\"G\"D7/F#\"A|\"Bbm\"B3|\nw:la li lu\n")
  }

  @Test func aTranspositionMovesNotesChordsAndKey() throws {
    let (score, up) = (try score(), try score().transposed(by: 5))
    #expect(up.notes.map(\.pitch) == score.notes.map { $0.pitch + 5 })
    #expect(up.chords.map(\.name) == ["C", "G7/B", "Ebm"] && up.key == "C major")
    #expect(try self.score().transposed(by: -6).chords.map(\.name) == ["C#", "Ab7/C", "Em"])
    #expect(up.transposed(by: -5).notes == score.notes && up.notes.map(\.start) == score.notes.map(\.start))
    var edge = score
    edge.notes[0].pitch = 126
    edge.notes[1].pitch = 2
    edge.notes[2].channel = 9
    #expect(edge.transposed(by: 6).notes.map(\.pitch) == [120, 8, score.notes[2].pitch])
    #expect(edge.transposed(by: -6).notes[1].pitch == 8)
  }

  @Test func aTempoScalesAllTimes() throws {
    let (score, fast) = (try score(), try score().at(tempo: 180))
    #expect(fast.tempo == 180 && abs(fast.duration - score.duration / 2) < 1e-9)
    for (a, b) in zip(fast.notes, score.notes) {
      #expect(abs(a.start - b.start / 2) < 1e-9 && abs(a.duration - b.duration / 2) < 1e-9)
    }
    for (a, b) in zip(fast.chords, score.chords) { #expect(abs(a.start - b.start / 2) < 1e-9) }
    #expect(abs(fast.beat - score.beat / 2) < 1e-9)
    #expect(score.at(tempo: score.tempo) == score && score.at(tempo: 0) == score)
  }
}
