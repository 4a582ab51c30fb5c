import FlowTestSupport
import Foundation
import Testing

@testable import FlowScore

@Suite struct ABCTests {
  /// Pitches and lengths in beats of a tune whose beat is a second.
  private func notes(_ body: String, _ header: String = "L:1/4\nM:4/4\nK:C") throws -> [(
    pitch: Int, beats: Double
  )] {
    try ABCReader.read("X:1\nT:t\nQ:1/4=60\n\(header)\n\(body)\n").notes.map { ($0.pitch, $0.duration) }
  }

  @Test(arguments: [
    ("C,CcC'c'", [48, 60, 72, 72, 84]), ("^C_D=E^^F__G", [61, 61, 64, 67, 65]), ("C^CC|C", [60, 61, 61, 60]),
    ("cBAG", [72, 71, 69, 67]), ("[CEG]c", [67, 72]),
  ])
  func pitches(_ body: String, _ expected: [Int]) throws {
    #expect(try notes(body).map(\.pitch) == expected)
  }

  @Test(arguments: [
    ("C2C/C//C3/2", [2, 0.5, 0.25, 1.5]), ("C>DE<F", [1.5, 0.5, 0.5, 1.5]), ("C>>D", [1.75, 0.25]),
    ("(3CDE F", [0.6667, 0.6667, 0.6667, 1]), ("C-C D", [2, 1]), ("C-|C2 D", [3, 1]),
    ("(3:2:2CD E", [0.6667, 0.6667, 1]), ("~C .D !trill!E HF", [1, 1, 1, 1]), ("{g}C {ab}D", [1, 1]),
  ])
  func lengths(_ body: String, _ expected: [Double]) throws {
    let found = try notes(body).map(\.beats)
    #expect(found.count == expected.count)
    for (a, b) in zip(found, expected) { #expect(abs(a - b) < 1e-4, "\(found)") }
  }

  @Test(arguments: [
    ("|:CD:|E", "CDCDE"), ("CD:|E", "CDCDE"), ("|:C|1D:|2E|]F", "CDCEF"), ("|:CD::EF:|", "CDCDEFEF"),
    ("CD|[1E:|[2F|]", "CDECDF"),
  ])
  func repeats(_ body: String, _ expected: String) throws {
    let names: [Character: Int] = ["C": 60, "D": 62, "E": 64, "F": 65]
    #expect(try notes(body).map(\.pitch) == expected.compactMap { names[$0] })
  }

  @Test(arguments: [
    ("G", "F", 66), ("F", "B", 70), ("Am", "F", 65), ("Edor", "F", 66), ("Amix", "F", 66), ("Bb", "E", 63),
    ("F#m", "C", 61),
    ("Eb major", "A", 68),
  ])
  func keysAlterNotes(_ key: String, _ note: String, _ pitch: Int) throws {
    #expect(try notes(note, "L:1/4\nM:4/4\nK:\(key)").map(\.pitch) == [pitch])
  }

  @Test func tempoMetreChordsAndSyllablesAreRead() throws {
    let score = try ABCReader.read(
      """
      X:1
      T:Test
      R:waltz
      M:3/4
      L:1/8
      Q:1/4=90
      K:D
      "D"d2 f2 a2|"G"b4 z2|
      w: Up and a-way
      """)
    #expect(score.title == "Test" && score.key == "D major" && score.metre == "3/4")
    #expect(abs(score.tempo - 90) < 1e-9)
    #expect(score.genre == "waltz")
    #expect(score.notes.map(\.syllable) == ["Up", "and", "a-", "way"])
    #expect(score.chords.map(\.name) == ["D", "G"])
    #expect(abs(score.chords[1].start - 2) < 1e-9)
  }

  @Test(arguments: [
    "", "hello", "X:1\nK:C\n", "X:1\nT:x\nK:C\n^", "X:1\nK:C\nC,,,,,,,,,,", "X:1\nK:C\n\"Am C",
    "X:1\nK:C\n{C",
  ])
  func whatIsNoTuneIsRefusedWithAReason(_ text: String) {
    #expect {
      try ABCReader.read(text)
    } throws: { error in
      (error as? ScoreError)?.description.isEmpty == false
    }
  }

  @Test func theDemoSongsCanBeSung() throws {
    let folder = repositoryRoot + "/pipelines/demo/songs"
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".abc") }
    #expect(names.count >= 8)
    for name in names {
      let score = try ABCReader.read(String(contentsOfFile: folder + "/" + name, encoding: .utf8))
      #expect(score.notes.allSatisfy { (48...81).contains($0.pitch) }, "\(name): out of a voice's range")
      #expect(score.notes.allSatisfy { $0.syllable != nil }, "\(name): a note without a syllable")
      #expect(!score.chords.isEmpty && (8...40).contains(score.duration), "\(name)")
    }
  }
}
