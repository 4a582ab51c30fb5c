import FlowCore
import FlowTestSupport
import Foundation
import Testing

@Suite struct LyricsCommandTests {
  @Test func mistakesAreSaidWithTheirPlace() throws {
    let shell = try Shell(bare: true)
    try shell.folder.write("w.txt", "[verse]\nrow Привет\n\n[chrous]\nrow\n")
    let refused = try shell("lyrics", "w.txt")
    #expect(refused.code == 2 && refused.out.isEmpty)
    for text in ["w.txt:2:5", "w.txt:4:1", "E062", "E063", "2 | row Привет", "[chorus]", "2 mistakes"] {
      #expect(refused.error.contains(text), "\(text) in \(refused.error)")
    }
    let taken = try shell("lyrics", "w.txt", "--skip-unknown", "--json")
    let document = try JSON(parsing: Data(taken.out.utf8))
    #expect(document["ids"] == [500, 511, 503, 511, 50, 24, 511, 50, 24, 511, 501, 511])
    #expect(taken.code == 0 && taken.error.contains("warning[E062]"))
  }

  /// A pipeline's words: with espeak-ng's place empty they are read by flow's rules, and that is another key than with it.
  @Test func aProgramMayBeMissing() throws {
    let shell = try Shell(
      pipeline: """
        flow: 1
        sources:
          songs: { path: songs, license: CC0-1.0 }
        stages:
          lyrics: { in: { lyrics: songs } }
        outputs: { lyrics: lyrics.lyrics }

        """)
    try shell.folder.write("pipelines/songs/a.txt", "[verse]\nrow row\n")
    try shell.folder.write("pipelines/songs/b.txt", "Привет\n")
    let declaration = shell.folder.text("stages/lyrics.yaml")
    func declare(_ search: String, optional: Bool = true) throws {
      try shell.folder.write(
        "stages/lyrics.yaml",
        declaration.replacing(#/search: .*/#, with: "search: [\(search)]")
          .replacing("optional: true", with: "optional: \(optional)"))
    }
    try declare("/nowhere/espeak-ng")
    let run = try shell("run", "pipelines/p.yaml")
    #expect(run.code == 0, "\(run.error)")
    #expect((run.out + run.error).contains("line 1, column 1: 'Привет'"), "\(run.out)\(run.error)")
    #expect(shell.folder.text("runs/p/lyrics/a.json").contains("\"ɹ\",\"oʊ\",\"_\",\"ɹ\",\"oʊ\""))
    try declare("/bin/true")
    let plan = try shell("plan", "pipelines/p.yaml")
    #expect(plan.out.contains("to run"), "\(plan.out)")
    try declare("/nowhere/espeak-ng", optional: false)
    let refused = try shell("run", "pipelines/p.yaml")
    #expect(refused.code == 2 && refused.error.contains("E031") && refused.error.contains("espeak-ng"))
  }
}
