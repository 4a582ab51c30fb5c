import FlowCore
import FlowTestSupport
import Foundation
import Testing

/// Lock files in real git repositories.
@Suite struct GitTests {
  let shell: Shell

  init() throws {
    shell = try Shell()
    try shell.git("init", "-q")
    let flow = try #require(Shell.executable).path
    try shell.git("config", "merge.flow-lock.driver", "'\(flow)' merge-lock %O %A %B %P")
    try shell.folder.write(".gitattributes", "*.lock.yaml merge=flow-lock\n")
    try shell.folder.write(".gitignore", "cache/\nruns/\n.out\n.error\n")
    #expect(try shell("run", "--quiet").code == 0)
    try shell.git("add", "-A")
    try shell.git("commit", "-qm", "base")
  }

  private var pipeline: String { shell.folder.text("pipelines/p.yaml") }
  private var lock: String { shell.folder.text("pipelines/p.lock.yaml") }

  /// Commits an edit of the pipeline, run, on a branch of its own from the base.
  private func branch(_ name: String, _ edits: (String, String)...) throws {
    try shell.git("checkout", "-q", "-b", name, "main")
    var text = pipeline
    for (old, new) in edits { text = text.replacingOccurrences(of: old, with: new) }
    try shell.folder.write("pipelines/p.yaml", text)
    #expect(try shell("run", "--quiet").code == 0)
    try shell.git("commit", "-qam", name)
  }

  @Test func disjointChangesMergeWithoutAWordAndAreWhatARunWrites() throws {
    try branch(
      "left", ("  f0:\n", "  other: { uses: f0, in: { audio: sing.vocals }, with: { fmax: 800 } }\n  f0:\n"))
    try branch(
      "right",
      (
        "    in: { audio: sing.vocals }\noutputs",
        "    in: { audio: sing.vocals }\n    with: { fmax: 900 }\noutputs"
      ))
    try shell.git("merge", "-q", "left", "-m", "both")
    #expect(lock.contains("fmax: 800.0") && lock.contains("fmax: 900.0") && !lock.contains("<<<<"))
    #expect(try shell("run", "--frozen").code == 0, "the merged file is that of a run")
  }

  @Test func theSameChangeOnBothSidesIsTakenAndADeletedStageStaysDeleted() throws {
    try branch("left", ("vibrato: 30", "vibrato: 20"))
    try branch(
      "right", ("vibrato: 30", "vibrato: 20"), ("  f0:\n    in: { audio: sing.vocals }\n", ""),
      ("outputs: { f0: f0.f0 }\n", ""))
    // f0 takes from sing, so the left side changed its block, which the right side took away.
    try shell.git("merge", "-q", "left", "-m", "both", code: 1)
    #expect(lock.contains("vibrato: 20.0") && lock.contains("  f0:\n    unresolved:"))
    try shell.git("checkout", "-q", "HEAD", "--", "pipelines/p.yaml")
    #expect(try shell("run", "--quiet").code == 0)
    #expect(!lock.contains("  f0:\n") && !lock.contains("unresolved"))
  }

  @Test func whatBothChangedIsLeftToTheNextRunWhichTakesItFromTheCache() throws {
    try branch("left", ("vibrato: 30", "vibrato: 20"))
    let left = lock
    try branch("right", ("vibrato: 30", "vibrato: 10"))
    try shell.git("merge", "-q", "left", "-m", "both", code: 1)
    #expect(lock.contains("unresolved: changed on both sides") && !lock.contains("<<<<"))
    #expect(lock.contains("  synthesise:\n    stage: symbolic-synthesis@"), "what is the same stays")
    // The pipeline's own conflict is for the user: the left side.
    try shell.git("checkout", "-q", "left", "--", "pipelines/p.yaml")
    #expect(try shell("run", "--frozen").code == 1)
    let run = try shell("run")
    #expect(run.code == 0 && run.out.contains("0 stages run, 3 cached"))
    #expect(lock == left)
  }

  @Test func differencesComeWithIntervalsWhereTheCacheHasTheItems() throws {
    for name in ["twinkle", "skip"] {
      let song = "/pipelines/demo/songs/\(name).abc"
      try shell.folder.write(
        "pipelines/songs/\(name).abc", try Data(contentsOf: URL(fileURLWithPath: repositoryRoot + song)))
    }
    #expect(try shell("run", "--quiet").code == 0)
    try shell.git("add", "-A")
    try shell.git("commit", "-qm", "four songs")
    let grown = try shell("diff", "HEAD~1")
    #expect(grown.out.contains("inputs  score: 2 -> 4 items (2 added)"))
    #expect(grown.out.contains("~ f0  reran: other inputs"))
    try shell.folder.write(
      "pipelines/p.yaml", pipeline.replacingOccurrences(of: "vibrato: 30", with: "vibrato: 90"))
    #expect(try shell("run", "--quiet").code == 0)
    let here = try shell("diff", "pipelines/p.yaml", "HEAD")
    #expect(here.out.contains("params  vibrato: 30.0 -> 90.0"))
    #expect(here.out.contains("over 4 items, paired"), "\(here.out)")
    let document = try JSON(parsing: try shell("diff", "HEAD", "--json").out.utf8)
    guard case .array(let stages)? = document["stages"],
      case .array(let entries)? = stages.first(where: { $0["name"] == "f0" })?["entries"],
      let metric = entries.first(where: { $0["section"] == "metrics" })
    else { return #expect(Bool(false), "\(document.pretty)") }
    let low = metric["interval"]?["low"]?.number ?? .nan
    let high = metric["interval"]?["high"]?.number ?? .nan
    let difference = (Double(metric["new"]?.text ?? "") ?? 0) - (Double(metric["old"]?.text ?? "") ?? 0)
    #expect(low < high && abs((low + high) / 2 - difference) < 1e-5)
    // Without the cache the lock files alone are compared, and that is said.
    try FileManager.default.removeItem(atPath: shell.folder.path + "/cache")
    let alone = try shell("diff", "HEAD")
    #expect(alone.out.contains("params  vibrato: 30.0 -> 90.0") && !alone.out.contains("95 %"))
    #expect(alone.error.contains("of means alone"))
  }

  @Test func metricsOfRevisionsStandSideBySide() throws {
    try branch("left", ("vibrato: 30", "vibrato: 90"))
    let table = try shell("metrics", "--rev", "main", "--rev", "left")
    let lines = table.out.split(separator: "\n")
    #expect(lines[0].split(separator: " ") == ["stage", "metric", "main", "left"])
    let row = lines.first { $0.hasPrefix("f0") }?.split(separator: " ") ?? []
    #expect(row.count == 4 && row[1] == "voiced_share" && row[2] != row[3])
    #expect(try shell("metrics", "--rev", "nowhere").code == 2)
  }
}
