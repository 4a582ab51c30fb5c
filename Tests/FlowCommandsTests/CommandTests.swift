import FlowCore
import FlowTestSupport
import Foundation
import Testing

@Suite struct CommandTests {
  @Test func eventsAreWrittenAsTheyHappen() throws {
    let shell = try Shell()
    #expect(try shell("run", "pipelines/p.yaml", "--events", "e.jsonl", "--quiet").code == 0)
    let events = try shell.folder.text("e.jsonl").split(separator: "\n").map { try JSON(parsing: $0.utf8) }
    #expect(events.allSatisfy { $0["schema"]?.text == "flow.events/1" && $0["at"]?.number != nil })
    let names = events.compactMap { $0["event"]?.text }
    #expect(names.first == "run-started" && names.last == "run-finished")
    #expect(events.last?["state"]?.text == "done")
    func count(_ name: String, _ stage: String) -> Int {
      events.count { $0["event"]?.text == name && $0["stage"]?.text == stage }
    }
    for stage in ["synthesise", "sing", "f0"] {
      #expect(count("stage-started", stage) == 1 && count("item-finished", stage) == 2, "\(stage)")
    }
    #expect(events.count { $0["event"]?.text == "stage-finished" } == 3)
    let refused = try shell("run", "pipelines/p.yaml", "--events", "nowhere/e.jsonl")
    #expect(refused.code == 2 && refused.error.contains("E056"))
  }

  @Test func aTypoIsShownWithItsPlaceAndRunsNothing() throws {
    let shell = try Shell(pipeline: Shell.small.replacingOccurrences(of: "vibrato", with: "vibrado"))
    let result = try shell("run", "pipelines/p.yaml")
    #expect(result.code == 2)
    #expect(result.out.isEmpty)
    #expect(
      result.error == """
        error[E011]: unknown key 'vibrado' in 'with' of stage 'sing'
         --> pipelines/p.yaml:10:13
           |
        10 |     with: { vibrado: 30 }
           |             ^^^^^^^ did you mean 'vibrato'?
          = help: nothing was run

        """)
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/pipelines/p.lock.yaml"))
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs"))
  }

  @Test func severalMistakesAreCounted() throws {
    let shell = try Shell(
      pipeline: Shell.small.replacingOccurrences(of: "vibrato: 30", with: "vibrato: loud, jitter: 3")
        .replacingOccurrences(of: "sing.vocals", with: "sing.vocal"))
    let result = try shell("validate", "pipelines/p.yaml")
    #expect(result.code == 2)
    #expect(result.error.contains("3 mistakes; nothing was run"))
    let json = try shell("validate", "pipelines/p.yaml", "--json")
    #expect(json.code == 2)
    let document = try JSON(parsing: json.out.utf8)
    guard case .array(let errors)? = document["errors"] else {
      Issue.record("no errors in \(json.out)")
      return
    }
    #expect(errors.map { $0["code"]?.text } == ["E014", "E018", "E022"])
  }

  @Test func planRunAndStatusAgree() throws {
    let shell = try Shell()
    let plan = try JSON(parsing: try shell("plan", "pipelines/p.yaml", "--json").out.utf8)
    #expect(plan["schema"] == "flow.plan/1")
    #expect(states(plan) == ["synthesise run", "sing may-run", "f0 may-run"])
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs"), "a plan makes nothing")

    let result = try shell("run", "pipelines/p.yaml", "--json")
    #expect(result.code == 0)
    let run = try JSON(parsing: result.out.utf8)
    #expect(run["schema"] == "flow.run/1")
    #expect(states(run) == ["synthesise done", "sing done", "f0 done"])
    guard case .array(let stages)? = run["stages"] else { return }
    #expect(stages[0]["items"] == ["total": 2, "cached": 0, "run": 2, "quarantined": 0])
    let track = try JSON(parsing: [UInt8](try #require(shell.folder.read("runs/p/f0/mary/f0.json"))))
    guard case .array(let f0)? = track["f0"] else {
      Issue.record("no F0")
      return
    }
    #expect(f0.count > 100)
    #expect(shell.folder.read("runs/p/f0/mary/f0.png")?.starts(with: [0x89, 0x50, 0x4E, 0x47]) == true)

    let lock = shell.folder.text("pipelines/p.lock.yaml")
    let again = try shell("run", "pipelines/p.yaml")
    #expect(again.code == 0 && again.out.contains("0 stages run, 3 cached"))
    #expect(shell.folder.text("pipelines/p.lock.yaml") == lock)
    #expect(try shell("status", "pipelines/p.yaml").out == "up to date: 3 stages cached\n")
    let why = try shell("why", "sing", "--set", "stages.sing.with.vibrato=20")
    #expect(why.out == "vibrato: 30.0 -> 20.0\n")
    let other = try JSON(
      parsing: try shell("plan", "pipelines/p.yaml", "--json", "--set", "stages.f0.with.fmax=900").out.utf8)
    #expect(states(other) == ["synthesise cached", "sing cached", "f0 run"])
    #expect(try shell("cache", "verify").out.contains("0 damaged"))
    #expect(try shell("log", "f0", "mary").code == 0)
  }

  private func states(_ document: JSON) -> [String] {
    guard case .array(let stages)? = document["stages"] else { return [] }
    return stages.map { "\($0["name"]?.text ?? "") \($0["state"]?.text ?? "")" }
  }

  @Test func aBadSongIsSetAsideAndNamed() throws {
    let shell = try Shell()
    try shell.folder.write("pipelines/songs/broken.abc", "X:1\nT:broken\nK:C\n\"Am C D")
    let result = try shell("run", "pipelines/p.yaml")
    #expect(result.code == 0)
    let reason = "the score can't be read: line 4: a chord symbol does not end"
    #expect(result.error.contains("broken was set aside: " + reason))
    #expect(result.error.contains("1 set aside"))
    let failing = try shell("run", "pipelines/p.yaml", "--set", "stages.synthesise.on_error=fail")
    #expect(failing.code == 1)
    #expect(failing.out.contains("failed    synthesise: broken: the score"))
    #expect(failing.out.contains("1 failed, 2 not begun") && failing.out.contains("  not begun sing: "))
    #expect(failing.out.contains("next: flow log synthesise"))
  }

  @Test func piecesOfTextHaveNoControlCodes() throws {
    let shell = try Shell()
    for arguments in [
      ["run", "pipelines/p.yaml"], ["plan", "pipelines/p.yaml"], ["stages"], ["stages", "f0"], ["doctor"],
      ["--help"],
    ] {
      let result = try shell.run(arguments)
      #expect(!(result.out + result.error).contains("\u{1B}"), "\(arguments)")
    }
  }

  @Test(arguments: [
    (["run", "pipelines/none.yaml"], Int32(2), "pipelines/none.yaml"), (["plan"], 0, ""),
    (["why", "nothing"], 2, "no stage 'nothing'"),
    (["stages", "f00"], 2, "no stage 'f00'"),
    (["run", "pipelines/p.yaml", "--set", "sources.songs.path=nowhere"], 2, "nothing at 'nowhere'"),
    (["log", "f0"], 1, "has no log yet"),
  ])
  func whatIsNotThereIsSaid(_ arguments: [String], _ code: Int32, _ says: String) throws {
    let shell = try Shell()
    let result = try shell.run(arguments)
    #expect(result.code == code, "\(result.error)")
    #expect(says.isEmpty || result.error.contains(says))
  }

  @Test func frozenFailsWhenAnythingWouldDiffer() throws {
    let shell = try Shell()
    #expect(try shell("run", "pipelines/p.yaml", "--frozen").code == 1)
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs"))
    #expect(try shell("run", "pipelines/p.yaml").code == 0)
    #expect(try shell("run", "pipelines/p.yaml", "--frozen").code == 0)
    let changed = try shell("run", "pipelines/p.yaml", "--frozen", "--set", "stages.f0.with.fmax=900")
    #expect(changed.code == 1 && changed.error.contains("f0: fmax: 1046.5 -> 900.0"))
    let lock = shell.folder.text("pipelines/p.lock.yaml")
    try shell.folder.write(
      "pipelines/p.lock.yaml", lock.replacingOccurrences(of: "items: 2", with: "items: 3"))
    let edited = try shell("run", "pipelines/p.yaml", "--frozen")
    #expect(edited.code == 1 && edited.error.contains("the lock file would change"))
  }

  @Test func whatLicencesDenyEndsWithCode3AndSaysWhy() throws {
    let text = """
      flow: 1
      licenses: { allow: [CC0-1.0] }
      sources: { songs: { path: songs, license: CC-BY-NC-4.0 } }
      stages: { pack: { in: { files: songs } } }

      """
    let shell = try Shell(pipeline: text)
    try shell.folder.write(
      "stages/pack.yaml",
      """
      stage: pack
      version: 1
      per: all
      run: command
      gate: license
      command: [touch, "{out.files}/packed"]
      inputs: { files: { type: files } }
      outputs: { files: { type: files } }
      """)
    let plan = try shell("plan", "pipelines/p.yaml")
    #expect(plan.code == 0 && plan.out.contains("denied   pack"))
    let denied = try shell("run", "pipelines/p.yaml")
    #expect(denied.code == 3, "\(denied.error)")
    #expect(denied.error.contains("error[E050]: stage 'pack' is not made"))
    #expect(denied.error.contains("CC-BY-NC-4.0: 2 items of source 'songs' (mary, row), through pack"))
    #expect(denied.error.contains("allow: [CC-BY-NC-4.0, CC0-1.0]"))
    #expect(try shell("run", "pipelines/p.yaml", "--set", "sources.songs.license=CC0-1.0").code == 0)
    #expect(try shell("run", "pipelines/p.yaml", "--frozen").code == 3)
  }

  @Test func partsOfAPipelineRunAloneAndTheLockFileKeepsTheRest() throws {
    let shell = try Shell()
    #expect(try shell("run", "pipelines/p.yaml", "--to", "synthesise").out.contains("1 stages run"))
    #expect(try shell("run", "pipelines/p.yaml").out.contains("2 stages run, 1 cached"))
    let lock = shell.folder.text("pipelines/p.lock.yaml")
    #expect(try shell("run", "pipelines/p.yaml", "--to", "sing").code == 0)
    #expect(shell.folder.text("pipelines/p.lock.yaml") == lock)
    let unknown = try shell("run", "pipelines/p.yaml", "--from", "synthesize")
    #expect(unknown.code == 2 && unknown.error.contains("did you mean 'synthesise'?"))
    let part = try shell("run", "pipelines/p.yaml", "--from", "f0", "--set", "stages.f0.with.fmax=800")
    #expect(part.out.contains("1 stages run, 2 cached"))
  }

  @Test func differencesBetweenCommitsAreRead() throws {
    let shell = try Shell()
    try shell.git("init")
    #expect(try shell("run", "pipelines/p.yaml").code == 0)
    try shell.git("add", "pipelines")
    try shell.git("commit", "-m", "one")
    try shell.folder.write(
      "pipelines/p.yaml", Shell.small.replacingOccurrences(of: "vibrato: 30", with: "vibrato: 10"))
    unlink(shell.folder.path + "/pipelines/songs/row.abc")
    #expect(try shell("run", "pipelines/p.yaml").code == 0)
    let here = try shell("diff", "HEAD")
    #expect(here.out.contains("params  vibrato: 30.0 -> 10.0"))
    #expect(here.out.contains("inputs  score: 2 -> 1 items"))
    #expect(here.out.contains("metrics  voiced_share: "))
    try shell.git("commit", "-am", "two")
    #expect(try shell("diff", "HEAD~1", "HEAD").out == here.out)
    #expect(try shell("diff", "HEAD").out == "nothing differs\n")
    let missing = try shell("diff", "--", "--output=x")
    #expect(missing.code == 2 && missing.error.contains("error[E034]"))
  }

  @Test func theGraphAndTheSchemaCoverEveryStage() throws {
    let shell = try Shell()
    let mermaid = try shell("graph", "pipelines/p.yaml").out
    #expect(mermaid.contains("-->|score|") && mermaid.contains("[\"sing\"]"))
    #expect(try shell("graph", "pipelines/p.yaml", "--format", "dot").out.contains("\"sing\" -> \"f0\""))
    let svg = try shell("graph", "pipelines/p.yaml", "--format", "svg").out
    #expect(svg.hasPrefix("<svg") && svg.components(separatedBy: "<rect").count == 5)
    let schema = try JSON(parsing: try shell("schema").out.utf8)
    guard case .object(let stages)? = schema["properties"]?["stages"]?["properties"] else {
      Issue.record("no stages in the schema")
      return
    }
    #expect(stages["f0"] != nil && stages["train-flow"] != nil)
  }

  @Test func killedInTheMiddleTheNextRunFinishes() throws {
    let shell = try Shell()
    let whole = try Shell()
    #expect(try whole("run", "pipelines/p.yaml").code == 0)
    for delay in [0.05, 0.3, 0.6] {
      let process = Process()
      let executable: URL = try #require(Shell.executable)
      process.executableURL = executable
      process.arguments = ["run", "pipelines/p.yaml", "--quiet"]
      process.currentDirectoryURL = URL(fileURLWithPath: shell.folder.path)
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      Thread.sleep(forTimeInterval: delay)
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    #expect(try shell("run", "pipelines/p.yaml").code == 0)
    #expect(shell.folder.text("pipelines/p.lock.yaml") == whole.folder.text("pipelines/p.lock.yaml"))
    #expect(try shell("cache", "verify").out.contains("0 damaged"))
  }
}
