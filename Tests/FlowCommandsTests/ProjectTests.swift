import FlowCore
import FlowTestSupport
import Foundation
import Testing

/// Projects outside of the repository, and what the program says about itself.
@Suite struct ProjectTests {
  @Test func aNewProjectRunsAtOnceAndNothingIsOverwritten() throws {
    let shell = try Shell(bare: true)
    let made = try shell("init", "new")
    #expect(made.code == 0 && made.out.hasSuffix("next: cd new && flow run\n"))
    let inside = try shell.run(["run", "--quiet"], in: "new")
    #expect(inside.code == 0, "\(inside.error)")
    #expect(shell.folder.read("new/runs/demo/mixes/frere.wav") != nil)
    #expect(try shell.run(["status"], in: "new").out == "up to date: 4 stages cached\n")
    try shell.folder.write("new/README.md", "mine")
    let again = try shell("init", "new", "--template", "recordings")
    #expect(again.code == 2 && again.error.contains("README.md"))
    #expect(
      shell.folder.text("new/README.md") == "mine" && shell.folder.read("new/recordings/.gitkeep") == nil)
    let unknown = try shell("init", "other", "--template", "dem")
    #expect(unknown.code == 2 && unknown.error.contains("did you mean 'demo'?"))
  }

  @Test(arguments: ["demo", "recordings", "train"])
  func everyTemplateIsValid(_ template: String) throws {
    let shell = try Shell(bare: true)
    #expect(try shell("init", "new", "--template", template).code == 0)
    let result = try shell.run(["validate"], in: "new")
    #expect(result.code == 0, "\(result.error)")
  }

  @Test func ownStagesGoBeforeBuiltInOnes() throws {
    let shell = try Shell(bare: true)
    #expect(try shell("init", "new").code == 0)
    try shell.folder.write(
      "new/stages/shout.yaml",
      """
      stage: shout
      version: 1
      doc: Upper case.
      per: item
      run: command
      command: ["sh", "-c", "tr a-z A-Z < \\"$1\\" > \\"$2/t.txt\\"", "shout", "{in.text/*}", "{out.text}"]
      inputs: { text: { type: lyrics, doc: A text. } }
      outputs: { text: { type: lyrics, doc: The same. } }

      """)
    let stages = try JSON(parsing: try shell.run(["stages", "--json"], in: "new").out.utf8)
    guard case .array(let list)? = stages["stages"] else { return #expect(Bool(false), "no stages") }
    #expect(list.contains { $0["name"] == "shout" } && list.contains { $0["name"] == "f0" })
    try shell.folder.write("new/words/a.txt", "hello")
    try shell.folder.write(
      "new/pipelines/w.yaml",
      "flow: 1\nsources: { words: { path: ../words } }\nstages: { shout: { in: { text: words } } }\noutputs: { loud: shout.text }\n"
    )
    #expect(try shell.run(["run", "-p", "pipelines/w.yaml", "--quiet"], in: "new").code == 0)
    #expect(shell.folder.text("new/runs/w/loud/a.txt") == "HELLO")
  }

  @Test(arguments: [
    (["rum"], "did you mean 'flow run'?"), (["help", "exit-cods"], "did you mean 'exit-codes'?"),
    (["run", "--jobs", "0"], "1 at least"), (["why"], "give a stage"), (["run", "--nothing"], "--nothing"),
    (["stages", "f00"], "did you mean 'f0'?"),
  ])
  func aMistypedCommandLineEndsWithTwoAndAHint(_ words: [String], _ hint: String) throws {
    let result = try Shell().run(words)
    #expect(result.code == 2)
    #expect(result.error.contains(hint), "\(result.error)")
    #expect(result.out.isEmpty)
  }

  @Test func helpIsOnStandardOutput() throws {
    let shell = try Shell(bare: true)
    for words in [
      ["--help"], ["help", "run"], ["run", "--help"], ["help", "exit-codes"], ["help", "topics"],
      ["--version"],
    ] {
      let result = try shell.run(words)
      #expect(result.code == 0 && result.error.isEmpty && result.out.count > 4, "\(words)")
    }
    #expect(try shell("help", "exit-codes").out.contains("143"))
  }

  @Test(arguments: [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])])
  func completionScriptsAreOfTheirShell(_ name: String, _ check: [String]) throws {
    let shell = try Shell(bare: true)
    let script = try shell("completion", name)
    #expect(script.code == 0 && script.out.contains("merge-lock") && script.out.contains("show-origin"))
    // Read by the shell itself where there is one.
    guard FileManager.default.isExecutableFile(atPath: "/usr/bin/" + name) else { return }
    try shell.folder.write("script", script.out)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = check + [shell.folder.path + "/script"]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }

  @Test func everyValueHasItsOrigin() throws {
    let shell = try Shell()
    try shell.folder.write(
      "pipelines/over.yaml", "extends: p.yaml\nname: over\nstages:\n  f0:\n    with: { fmin: 70 }\n")
    let result = try shell(
      "config", "pipelines/over.yaml", "--show-origin", "--json", "--set", "stages.f0.with.fmax=900")
    let document = try JSON(parsing: result.out.utf8)
    guard case .array(let values)? = document["values"] else {
      return #expect(Bool(false), "\(result.error)")
    }
    func entry(_ path: String) -> JSON? { values.first { $0["path"] == .string(path) } }
    #expect(entry("stages.f0.with.fmin")?["origin"] == "pipelines/over.yaml:5:19")
    #expect(entry("stages.f0.with.fmin")?["value"] == 70.0)
    #expect(entry("stages.f0.with.fmax")?["origin"] == "--set")
    #expect(entry("stages.sing.with.vibrato")?["origin"] == "pipelines/p.yaml:10:22")
    #expect(entry("stages.f0.with.hop")?["origin"]?.text?.hasPrefix("stages/f0.yaml:") == true)
    #expect(entry("sources.songs.path")?["origin"] == "pipelines/p.yaml:3:18")
    #expect(entry("cache.path")?["origin"] == "default")
    #expect(try shell("config", "pipelines/over.yaml", "--set", "stages.f0.with.fmxa=1").code == 2)
  }

  @Test func oneStageIsNamedInOneWay() throws {
    let shell = try Shell()
    #expect(try shell("run", "--quiet").code == 0)
    for words in [
      ["why", "f0", "mary"], ["why", "pipelines/p.yaml", "f0", "mary"],
      ["why", "-p", "pipelines/p.yaml", "f0", "mary"],
    ] {
      #expect(try shell.run(words).out == "f0 mary is up to date\n")
    }
    let item = try shell("why", "f0", "mary", "--set", "stages.f0.with.fmax=900")
    #expect(item.out == "fmax: 1046.5 -> 900.0\n")
    let unknown = try shell("why", "f0", "marie")
    #expect(unknown.code == 2 && unknown.error.contains("did you mean 'mary'?"))
    let log = try JSON(parsing: try shell("log", "pipelines/p.yaml", "f0", "mary", "--json").out.utf8)
    #expect(log["schema"] == "flow.log/1")
  }

  @Test func aFailureStopsWhatHasNotBegunUnlessAskedToGoOn() throws {
    let shell = try Shell(bare: true)
    try shell.folder.write("flow.yaml", "flow: 1\n")
    func stage(_ name: String, _ line: String) throws {
      try shell.folder.write(
        "stages/\(name).yaml",
        "stage: \(name)\nversion: 1\ndoc: d.\nper: all\nrun: command\ncommand: [sh, -c, '\(line)', x, '{out.o}']\ninputs: { i: { type: files, doc: d., optional: true } }\noutputs: { o: { type: files, doc: d. } }\n"
      )
    }
    try stage("bad", "exit 3")
    try stage("good", "sleep 1; echo a > $1/a")
    try shell.folder.write(
      "pipelines/p.yaml",
      """
      flow: 1
      stages:
        bad: {}
        below: { uses: good, in: { i: bad.o } }
        one: { uses: good }
        two: { uses: good, in: { i: one.o } }

      """)
    let halted = try JSON(parsing: try shell("run", "--json", "-j", "2", "--quiet").out.utf8)
    guard case .array(let stages)? = halted["stages"] else { return #expect(Bool(false), "no stages") }
    func failure(_ stages: [JSON], _ name: String) -> JSON? {
      stages.first { $0["name"] == .string(name) }?["failure"]
    }
    // What had begun was finished and kept.
    #expect(failure(stages, "one") == .null)
    #expect(failure(stages, "two")?.text?.contains("--keep-going") == true)
    let whole = try shell("run", "--json", "-j", "2", "--keep-going", "--quiet")
    #expect(whole.code == 1)
    guard case .array(let all)? = try JSON(parsing: whole.out.utf8)["stages"] else { return }
    #expect(failure(all, "two") == .null)
    #expect(failure(all, "below") == "stage 'bad', which it takes from, failed")
    #expect(failure(all, "bad")?.text?.contains("status 3") == true)
  }

  @Test func watchingRunsAgainAfterAChangeAndEndsByASignal() throws {
    let shell = try Shell()
    let process = try shell.start(["run", "--watch", "--quiet"])
    #expect(shell.wait { shell.error.contains("watching") })
    let text = shell.folder.text("pipelines/p.yaml").replacingOccurrences(
      of: "vibrato: 30", with: "vibrato: 31")
    try shell.folder.write("pipelines/p.yaml", text)
    #expect(shell.wait { shell.error.components(separatedBy: "watching").count == 3 })
    #expect(shell.error.contains("changed: pipelines/p.yaml"))
    #expect(shell.out.contains("2 stages run, 1 cached"))
    // A mistake is said, and watching goes on.
    try shell.folder.write("pipelines/p.yaml", text.replacingOccurrences(of: "vibrato", with: "vibrado"))
    #expect(shell.wait { shell.error.components(separatedBy: "watching").count == 4 })
    #expect(shell.error.contains("did you mean 'vibrato'?"))
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationStatus == 130)
  }
}
