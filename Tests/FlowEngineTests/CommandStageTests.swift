import CProcess
import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// Stages that run programs, in this process.
@Suite struct CommandStageTests {
  private func stage(
    _ words: [String], per: StageDeclaration.Per = .item, shell: Bool = false,
    environment: [String: String] = [:],
    parameters: [String: JSON] = [:], sandbox: Bool = true
  ) -> PlannedStage {
    var declaration = StageDeclaration(
      name: "run", version: 1, doc: "", per: per, inputs: [InputDeclaration(name: "text", type: .lyrics)],
      outputs: [OutputDeclaration(name: "text", type: .lyrics)],
      parameters: parameters.keys.sorted().map {
        ParameterDeclaration(name: $0, kind: .string, standard: nil)
      })
    var template = CommandTemplate(words: words, shell: shell, environment: environment)
    template.sandbox = sandbox
    declaration.run = .command(template)
    return PlannedStage(
      name: "run", declaration: declaration, parameters: parameters, bindings: ["text": [.source("texts")]],
      resources: Resources())
  }

  private func run(_ stage: PlannedStage, _ bench: Bench) async throws -> StageReport {
    var plan = bench.plan
    plan.stages = [stage]
    plan.results = [PlannedResult(name: "out", references: [.output(stage: "run", output: "text")])]
    return try await bench.engine.run(plan, projectRoot: bench.folder.path).stages[0]
  }

  @Test func aProgramGetsItsFilesAndItsOutputIsKept() async throws {
    let bench = try Bench()
    let copy = stage(["cp", "{in.text/*}", "{out.text}/copy.txt"])
    let report = try await run(copy, bench)
    #expect(report.state == .done && report.failure == nil, "\(report.quarantined)")
    #expect(bench.folder.text("runs/bench/out/b.txt") == "b text")
    #expect(try await run(copy, bench).state == .cached)
    #expect(try await run(stage(["cp", "-f", "{in.text/*}", "{out.text}/copy.txt"]), bench).items.run == 3)
  }

  /// What isn't declared can't be read, by the kernel's word.
  @Test func undeclaredReadsAreRefused() async throws {
    guard flow_sandbox_version() > 0 else {
      print("skipped: this kernel has no Landlock")
      return
    }
    let bench = try Bench()
    let secret = bench.folder.path + "/secret.txt"
    try bench.folder.write("secret.txt", "secret")
    func reader(_ change: (inout CommandTemplate) -> Void) -> PlannedStage {
      var stage = stage(["cp", secret, "{out.text}/copy.txt"])
      if case .command(var template) = stage.declaration.run {
        change(&template)
        stage.declaration.run = .command(template)
      }
      return stage
    }
    let refused = try await run(reader { _ in }, bench)
    #expect(refused.failure?.contains("reads: [PATH]") ?? false, "\(refused.failure ?? "it was read")")
    let written = try await run(stage(["cp", "{in.text/*}", bench.folder.path + "/planted.txt"]), bench)
    #expect(written.failure != nil && bench.folder.read("planted.txt") == nil)
    #expect(try await run(reader { $0.reads = [secret] }, bench).failure == nil)
    #expect(bench.folder.text("runs/bench/out/a.txt") == "secret")
    for key in bench.store.recordKeys() { bench.store.removeRecord(key) }
    #expect(try await run(reader { $0.sandbox = false }, bench).failure == nil)
  }

  /// A script is a file parameter: it may be read, and its content is in the key.
  @Test func aScriptIsAFileParameter() async throws {
    let bench = try Bench()
    try bench.folder.write("tool.sh", "tr a-z A-Z < \"$1\" > \"$2/t.txt\"")
    var tool = stage(["sh", "{params.script}", "{in.text/*}", "{out.text}"])
    tool.declaration.parameters = [
      ParameterDeclaration(
        name: "script", kind: .file(search: [bench.folder.path + "/tool.sh"], package: nil), standard: .null)
    ]
    tool.parameters = ["script": .null]
    #expect(try await run(tool, bench).failure == nil)
    #expect(bench.folder.text("runs/bench/out/b.txt") == "B TEXT")
    #expect(try await run(tool, bench).state == .cached)
    try bench.folder.write("tool.sh", "tr a-z b-za < \"$1\" > \"$2/t.txt\"")
    #expect(try await run(tool, bench).items.run == 3)
    #expect(bench.folder.text("runs/bench/out/b.txt") == "c ufyu")
  }

  /// No shell reads an argument, whatever is in it.
  @Test(arguments: [
    "$(touch canary)", "`touch canary`", "; touch canary", "a b  c", "*", "\"'\\", "-n", "日本\n",
  ])
  func argumentsStayWhatTheyAre(_ value: String) async throws {
    let bench = try Bench()
    let echo = stage(
      ["sh", "-c", "printf %s \"$1\" > \"$2\"/o.txt; ls > /dev/null", "sh", "{params.value}", "{out.text}"],
      parameters: ["value": .string(value)])
    let report = try await run(echo, bench)
    #expect(report.failure == nil && report.quarantined.isEmpty, "\(report.quarantined)")
    #expect(bench.folder.text("runs/bench/out/a.txt") == value)
    let everything =
      FileManager.default.enumerator(atPath: bench.folder.path)?.compactMap { $0 as? String } ?? []
    #expect(!everything.contains { $0.hasSuffix("canary") })
  }

  @Test func aShellGetsValuesAsVariablesOnly() async throws {
    let bench = try Bench()
    let shell = stage(
      [
        "cat $FLOW_IN_TEXT/* | tr a-z A-Z > $FLOW_OUT_TEXT/o.txt; printf %s \"$FLOW_PARAM_VALUE\" >> $FLOW_OUT_TEXT/o.txt"
      ],
      shell: true, parameters: ["value": "$(touch canary)"])
    #expect(try await run(shell, bench).quarantined.isEmpty)
    #expect(bench.folder.text("runs/bench/out/a.txt") == "A TEXT$(touch canary)")
  }

  @Test func theEnvironmentIsWhatWasDeclared() async throws {
    setenv("FLOW_TEST_SECRET", "leaks", 1)
    let bench = try Bench()
    let env = stage(
      ["sh", "-c", "env > \"$1\"/env.txt", "sh", "{out.text}"],
      environment: ["GREETING": "hello {params.who}"],
      parameters: ["who": "you"])
    _ = try await run(env, bench)
    let text = bench.folder.text("runs/bench/out/a.txt")
    #expect(text.contains("GREETING=hello you\n"))
    #expect(!text.contains("leaks"))
    let names = Set(
      text.split(separator: "\n").compactMap { $0.split(separator: "=").first.map(String.init) })
    #expect(
      names.isSubset(of: [
        "PATH", "HOME", "TMPDIR", "LANG", "GREETING", "PWD", "OLDPWD", "SHLVL", "_", "CUDA_VISIBLE_DEVICES",
      ]))
  }

  @Test func aStageOverAllGetsAFolderPerItem() async throws {
    let bench = try Bench()
    let join = stage(
      [
        "sh", "-c", "cat \"$1\"/*/* > \"$2\"/all.txt; echo '{\"files\": 3}' > \"$3\"", "sh", "{in.text}",
        "{out.text}", "{metrics}",
      ], per: .all)
    let report = try await run(join, bench)
    #expect(report.failure == nil)
    #expect(bench.folder.text("runs/bench/out/all.txt") == "a textb textc text")
    #expect(report.metrics == ["files": 3])
  }

  @Test func howAProgramEndsIsSaid() async throws {
    let bench = try Bench()
    func said(_ words: String...) async throws -> String {
      let report = try await run(stage(words), bench)
      return report.quarantined.first?.reason ?? report.failure ?? ""
    }
    #expect(try await said("sh", "-c", "echo no good >&2; exit 3") == "sh ended with status 3: no good")
    #expect(try await said("no-such-program").hasPrefix("there is no program 'no-such-program'"))
    #expect(try await said("true") == "the command wrote nothing to {out.text}")
    #expect(
      try await said("sh", "-c", "ln -s /etc/passwd {x}; ln -s /etc/passwd \"$1\"/l", "sh", "{out.text}")
        .contains("neither file nor folder"))
    #expect(try await said("sh", "-c", "kill -11 $$").contains("signal 11"))
    // What the kernel does for want of memory, to the program or to one that its shell runs.
    #expect(try await said("sh", "-c", "kill -9 $$").hasPrefix("sh was killed, for want of memory"))
    #expect(
      try await said("sh", "-c", "sh -c 'kill -9 $$'; exit $?").hasPrefix("sh was killed, for want of memory")
    )
    // EX_DATAERR sets the item aside for good: the verdict is a result.
    let rejecting = stage(["sh", "-c", "echo too short; exit 65"])
    #expect(
      try await run(rejecting, bench).quarantined.map(\.reason) == ["too short", "too short", "too short"])
    #expect(try await run(rejecting, bench).items.run == 0)
  }

  @Test func whatAProgramLeavesBehindEndsWithIt() async throws {
    let bench = try Bench()
    let marker = "flow-orphan-\(UUID().uuidString)"
    let leaving = stage([
      "sh", "-c", "sh -c 'sleep 300; : \(marker)' & echo x > \"$1\"/o.txt", "sh", "{out.text}",
    ])
    #expect(try await run(leaving, bench).quarantined.isEmpty)
    let processes = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { id in
      FileManager.default.contents(atPath: "/proc/\(id)/cmdline").map { String(decoding: $0, as: UTF8.self) }
    }
    #expect(!processes.contains { $0.contains(marker) })
  }

  @Test func aFailureIsTriedAgainAsOftenAsAllowed() async throws {
    let bench = try Bench()
    for name in ["b", "c"] { unlink(bench.folder.path + "/texts/\(name).txt") }
    let counter = bench.folder.path + "/count"
    var flaky = stage(
      [
        "sh", "-c", "echo x >> \"$2\"; [ $(wc -l < \"$2\") -ge 3 ] && echo done > \"$1\"/o.txt", "sh",
        "{out.text}", counter,
      ], sandbox: false)
    flaky.retries = [.other: 1]
    #expect(try await run(flaky, bench).failure != nil)
    flaky.retries = [.other: 5]
    #expect(try await run(flaky, bench).failure == nil)
    #expect(bench.folder.text("count") == "x\nx\nx\n")
  }
}

@Suite struct SourceTests {
  private func scan(_ folder: TemporaryFolder, _ change: (inout PlannedSource) -> Void) throws -> [Item] {
    var source = PlannedSource(name: "s", path: folder.path + "/in")
    change(&source)
    return try SourceScan(source, stats: StatCache(try Store(root: folder.path + "/cache"))).items
  }

  private func folder() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for name in [
      "a.wav", "a.txt", "deep/b.wav", "deep/er/c.WAV", "old/d.wav", ".hidden/e.wav", "deep/.f.wav",
      "noending",
    ] {
      try folder.write("in/" + name, name)
    }
    return folder
  }

  @Test func filesOfOneStemAreOneItemAndHiddenOnesNone() throws {
    let folder = try folder()
    let items = try scan(folder) { _ in }
    #expect(items.map(\.id) == ["a", "deep/b", "deep/er/c", "old/d"])
    #expect(items[0].files.map(\.name) == ["source.txt", "source.wav"])
    #expect(items[2].files.map(\.name) == ["source.wav"])
  }

  @Test(arguments: [
    (["*.wav"], [String](), ["a", "deep/b", "old/d"]), (["deep/**"], [], ["deep/b", "deep/er/c"]),
    (["deep/*.wav"], [], ["deep/b"]), (["**/*.{wav,WAV}"], ["old/**"], ["a", "deep/b", "deep/er/c"]),
    (["?.txt"], [], ["a"]),
    ([], ["**"], []), ([], ["a.*", "deep/*/*"], ["deep/b", "old/d"]),
  ])
  func patternsChoose(_ include: [String], _ exclude: [String], _ ids: [String]) throws {
    let folder = try folder()
    let items = try scan(folder) {
      $0.include = include
      $0.exclude = exclude
    }
    #expect(items.map(\.id) == ids)
  }

  @Test func aManifestNamesItemsAndTheirAttributes() throws {
    let folder = try folder()
    try folder.write(
      "list.jsonl",
      """
      {"id": "one", "path": "in/a.wav", "singer": "A", "license": "CC0-1.0", "author": "B"}

      {"id": "two", "paths": ["in/deep/b.wav", "in/a.txt"]}
      """)
    let items = try scan(folder) {
      $0.path = folder.path + "/list.jsonl"
      $0.isManifest = true
    }
    #expect(items.map(\.id) == ["one", "two"])
    // Licence and author are kept apart: they are in no key.
    #expect(items[0].attributes == ["singer": "A"])
    #expect(items[1].files.map(\.name) == ["source.txt", "source.wav"])
  }

  @Test func mistakesInAManifestAreSaidWithTheirLines() throws {
    let folder = try folder()
    try folder.write(
      "list.jsonl",
      #"{"id": "one", "path": "in/a.wav"}"# + "\nnonsense\n" + #"{"id": "x"}"# + "\n"
        + #"{"id": "one", "path": "in/none.wav"}"# + "\n")
    #expect {
      try scan(folder) {
        $0.path = folder.path + "/list.jsonl"
        $0.isManifest = true
      }
    } throws: { error in
      let all = (error as? Diagnostics)?.all ?? []
      return all.map { $0.location?.line } == [2, 3, 4, 4] && all.allSatisfy { $0.code == "E033" }
    }
  }
}

@Suite struct MatrixRunTests {
  @Test func cellsRunOnTheirOwnAndMeetUnderTheirLabels() async throws {
    let bench = try Bench()
    var plan = bench.plan
    var cells: [PlannedStage] = []
    for suffix in ["x", "y"] {
      var cell = plan.stages[0]
      cell.name = "upper[s=\(suffix)]"
      cell.parameters["suffix"] = .string(suffix)
      cells.append(cell)
    }
    plan.stages = cells
    plan.results = [
      PlannedResult(
        name: "texts",
        references: ["x", "y"].map { .cell(stage: "upper[s=\($0)]", output: "text", label: "s=\($0)") })
    ]
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.folder.text("runs/bench/texts/s=x/a.txt") == "A TEXTx")
    #expect(bench.folder.text("runs/bench/texts/s=y/c.txt") == "C TEXTy")
    #expect(bench.lock.contains("upper[s=x]:"))
  }
}
