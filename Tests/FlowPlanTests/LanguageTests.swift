import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

@Suite struct MatrixTests {
  private static let text = """
    flow: 1
    params: { rates: [100, 200], kind: full }
    sources: { songs: { path: songs } }
    stages:
      tune:
        matrix: { fmax: "${params.rates}", mode: [fast, exact] }
        in: { audio: songs }
        with: { fmax: "${matrix.fmax}", mode: "${matrix.mode}" }
      train:
        in: { audio: tune.audio }
        with: { steps: 1 }
      one:
        uses: train
        in: { audio: "tune[fmax=200,mode=fast].audio" }
        with: { steps: 2 }
      follow:
        uses: tune
        matrix: { mode: [fast, exact] }
        in: { audio: "tune[fmax=100,mode=${matrix.mode}].audio" }
    outputs: { f0: tune.f0 }
    """

  @Test func everyCombinationIsAStageOfItsOwn() throws {
    let plan = try Fixture.plan(MatrixTests.text)
    #expect(
      plan.stages.filter { $0.name.hasPrefix("tune[") }.map(\.name) == [
        "tune[fmax=100,mode=fast]", "tune[fmax=100,mode=exact]", "tune[fmax=200,mode=fast]",
        "tune[fmax=200,mode=exact]",
      ])
    let cell = try #require(plan.stage("tune[fmax=200,mode=fast]"))
    #expect(cell.parameters["fmax"] == .double(200) && cell.parameters["mode"] == .string("fast"))
    let all = plan.stage("train")?.bindings["audio"] ?? []
    #expect(all.count == 4)
    #expect(
      all.first == .cell(stage: "tune[fmax=100,mode=fast]", output: "audio", label: "fmax=100,mode=fast"))
    #expect(plan.stage("one")?.upstream == ["tune[fmax=200,mode=fast]"])
    #expect(plan.stage("follow[mode=exact]")?.upstream == ["tune[fmax=100,mode=exact]"])
    #expect(plan.results[0].references.count == 4)
  }

  @Test(arguments: [
    (
      "mode: [fast, exact] }\n    in: { audio: songs }", "mode: fast }\n    in: { audio: songs }", "E014",
      "list of values"
    ),
    ("${matrix.fmax}", "${matrix.fmx}", "E025", "did you mean 'fmax'?"),
    ("with: { steps: 1 }", "with: { steps: \"${matrix.a}\" }", "E025", "has no matrix"),
    (
      "mode: [fast, exact] }\n    in: { audio: songs }", "mode: [fast, fast] }\n    in: { audio: songs }",
      "E014", "twice"
    ),
    ("mode=fast].audio", "mode=slow].audio", "E022", "there is no stage"),
    ("\"${params.rates}\"", "[5, 100]", "E018", "at least 20"),
  ])
  func aMistakeIsSaidOnce(_ from: String, _ to: String, _ code: String, _ says: String) {
    #expect(MatrixTests.text.contains(from))
    let found = Fixture.mistakes(MatrixTests.text.replacingOccurrences(of: from, with: to))
    let hits = found.filter { $0.code == code && [$0.message, $0.label ?? ""].joined().contains(says) }
    #expect(hits.count == 1, "\(found.map(\.message))")
  }

  @Test func aMatrixHasALimit() {
    let many = (0..<40).map(String.init).joined(separator: ", ")
    let text = MatrixTests.text.replacingOccurrences(
      of: "mode: [fast, exact] }\n    in: { audio: songs }",
      with: "a: [\(many)], b: [\(many)] }\n    in: { audio: songs }")
    #expect(Fixture.mistakes(text).contains { $0.code == "E018" && $0.message.contains("more than 1000") })
  }
}

@Suite struct ConditionTests {
  private func text(_ kind: String, _ condition: String) -> String {
    """
    flow: 1
    params: { kind: \(kind), on: true }
    sources: { songs: { path: songs } }
    stages:
      extra: { uses: tune, when: "\(condition)", in: { audio: songs } }
      tune: { in: { audio: songs } }
      train: { in: { audio: [tune.audio, extra.audio] }, with: { steps: 1 } }
    """
  }

  @Test(arguments: [
    ("full", "${params.kind} == full", true), ("lora", "${params.kind} == full", false),
    ("lora", "${params.kind} != full", true),
    ("full", "${params.on}", true), ("full", "false", false),
  ])
  func aStageIsThereWhenItsConditionHolds(_ kind: String, _ condition: String, _ isThere: Bool) throws {
    let plan = try Fixture.plan(text(kind, condition))
    #expect((plan.stage("extra") != nil) == isThere)
    #expect(plan.stage("train")?.bindings["audio"]?.count == (isThere ? 2 : 1))
  }

  @Test func whatNeedsALeftOutStageIsSaid() {
    let needy = text("full", "false").replacingOccurrences(
      of: "[tune.audio, extra.audio]", with: "extra.audio")
    #expect(Fixture.mistakes(needy).map(\.code) == ["E028"])
    #expect(Fixture.mistakes(text("full", "perhaps")).map(\.code) == ["E014"])
  }
}

@Suite struct ExtendsTests {
  private static let base = """
    flow: 1
    params: { seed: 1, low: 100 }
    sources: { songs: { path: songs, license: CC0-1.0 } }
    stages:
      tune: { in: { audio: songs }, with: { fmax: 900, hop: 256 } }
    outputs: { f0: tune.f0 }
    """

  private func plan(_ text: String, _ files: [String: String]) throws -> Plan {
    try Resolver.plan(file: "p/own.yaml", text: text, catalog: Fixture.catalog) { path in
      guard let text = files[path] else {
        throw Diagnostics([Diagnostic(code: "E005", "can't read '\(path)'")])
      }
      return text
    }
  }

  @Test func aDocumentIsLaidOverItsBase() throws {
    let own = """
      extends: ../base/base.yaml
      params: { seed: 2 }
      stages:
        tune: { with: { hop: 128 } }
        again: { uses: tune, in: { audio: tune.audio } }
      outputs: { f0: ~ }
      """
    let plan = try plan(own, ["p/../base/base.yaml": ExtendsTests.base])
    #expect(plan.stages.map(\.name) == ["tune", "again"])
    #expect(plan.stage("tune")?.parameters["hop"] == .int(128))
    #expect(plan.stage("tune")?.parameters["fmax"] == .double(900))
    #expect(plan.results.isEmpty)
    // A path is of the folder of the file that says it.
    #expect(plan.sources[0].path == "p/../base/songs")
  }

  @Test func mistakesInTheBaseAreSaidAtItsPlace() {
    let bad = ExtendsTests.base.replacingOccurrences(of: "hop: 256", with: "hop: loud")
    #expect {
      try plan("extends: base.yaml\n", ["p/base.yaml": bad])
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E014" && hit?.location?.file == "p/base.yaml" && hit?.location?.line == 5
        && hit?.sourceLine?.contains("hop: loud") == true
    }
  }

  @Test func circlesAndMissingBasesAreSaid() {
    #expect {
      try plan("extends: a.yaml", ["p/a.yaml": "extends: b.yaml", "p/b.yaml": "extends: a.yaml"])
    } throws: { error in
      (error as? Diagnostics)?.all.contains { $0.code == "E024" && $0.message.contains("circle") } == true
    }
    #expect {
      try plan("extends: none.yaml", [:])
    } throws: { error in
      (error as? Diagnostics)?.all.contains { $0.code == "E005" } == true
    }
  }
}

@Suite struct StageSettingTests {
  @Test func timesAndRetriesAreRead() throws {
    let text = Fixture.good.replacingOccurrences(
      of: "with: { fmax: 900 }",
      with: "timeout: 15min\n    retry: { out-of-memory: 2, timeout: 1 }\n    retain: until-consumed")
    let stage = try #require(try Fixture.plan(text).stage("tune"))
    #expect(stage.timeout == 900)
    #expect(stage.retries == [.outOfMemory: 2, .timeout: 1])
    #expect(stage.retain == .untilConsumed)
  }

  @Test(arguments: [
    ("timeout: soon", "E014"), ("timeout: -3s", "E014"), ("retry: { oom: 1 }", "E011"),
    ("retry: { other: -1 }", "E014"),
    ("retain: never-ever", "E014"), ("when: [1]", "E014"),
  ])
  func badSettingsAreSaid(_ line: String, _ code: String) {
    let text = Fixture.good.replacingOccurrences(of: "with: { fmax: 900 }", with: line)
    #expect(Fixture.mistakes(text).contains { $0.code == code })
  }

  @Test func aSourceTakesPatternsOrAManifest() throws {
    let text = Fixture.good.replacingOccurrences(
      of: "{ path: songs, license: CC0-1.0 }", with: "{ path: songs, glob: \"**/*.wav\", exclude: [old/**] }")
    let source = try Fixture.plan(text).sources[0]
    #expect(source.include == ["**/*.wav"] && source.exclude == ["old/**"] && !source.isManifest)
    let manifest = Fixture.good.replacingOccurrences(of: "path: songs", with: "manifest: songs.jsonl")
    #expect(try Fixture.plan(manifest).sources[0].isManifest)
  }
}

@Suite struct CommandDeclarationTests {
  private static let good = """
    stage: louder
    version: 1
    per: item
    run: command
    command: [sox, "{in.audio/*}", "{out.audio}/audio.wav", gain, "{params.db}"]
    env: { OMP_NUM_THREADS: "{threads}" }
    inputs: { audio: { type: audio } }
    outputs: { audio: { type: audio } }
    params: { db: { type: float, default: 3 } }
    """

  @Test func aCommandIsRead() throws {
    let (found, problems) = StageCatalog.parse(file: "louder.yaml", text: CommandDeclarationTests.good)
    #expect(problems.isEmpty)
    guard case .command(let template)? = found?.run else {
      Issue.record("no command")
      return
    }
    #expect(template.words.count == 5 && !template.shell)
    #expect(
      CommandTemplate.pieces("a{in.audio/*}b{x}{params.db}") == [
        .text("a"), .mark(.input(port: "audio", file: "*")), .text("b{x}"), .mark(.parameter("db")),
      ])
    #expect(CommandTemplate.pieces("{a{threads}}") == [.text("{a"), .mark(.threads), .text("}")])
    #expect(CommandTemplate.pieces("{out.audio/x}{") == [.text("{out.audio/x}{")])
  }

  @Test(arguments: [
    ("{in.audio/*}", "{in.audoi/*}", "E022"), ("{params.db}", "{params.dB}", "E022"),
    ("{out.audio}", "{out.x}", "E022"), ("{params.db}", "{params.}", "E022"),
    ("{out.audio}/", "{out.audio/}", "E022"), ("{in.audio/*}", "{in.audio/a/b}", "E022"),
    ("run: command", "run: native", "E015"), ("run: command", "run: comand", "E014"),
    (
      "command: [sox, \"{in.audio/*}\", \"{out.audio}/audio.wav\", gain, \"{params.db}\"]", "command: sox it",
      "E014"
    ),
    (
      "command: [sox, \"{in.audio/*}\", \"{out.audio}/audio.wav\", gain, \"{params.db}\"]", "command: []",
      "E015"
    ),
  ])
  func aMistakeIsSaid(_ from: String, _ to: String, _ code: String) {
    #expect(CommandDeclarationTests.good.contains(from))
    let text = CommandDeclarationTests.good.replacingOccurrences(of: from, with: to)
    let problems = StageCatalog.parse(file: "louder.yaml", text: text).1
    #expect(problems.contains { $0.code == code }, "\(problems.map(\.message))")
  }
}

@Suite struct LimitTests {
  private func text(_ limits: String, _ resources: String) -> String {
    "limits: \(limits)\n"
      + Fixture.good.replacingOccurrences(of: "with: { fmax: 900 }", with: "resources: \(resources)")
  }

  @Test func resourcesAndLimitsAreRead() throws {
    let plan = try Fixture.plan(
      text("{ disk: 2, memory: 8GiB }", "{ cpu: 2, gpu: 1, memory: 1GiB, tokens: { disk: 1 } }"))
    #expect(plan.limits == Limits(memory: 8 << 30, tokens: ["disk": 2]))
    #expect(
      plan.stage("tune")?.resources == Resources(cpu: 2, memory: 1 << 30, gpu: 1, tokens: ["disk": 1]))
    let set = try Fixture.plan(
      text("{ disk: 2 }", "{ tokens: { disk: 1 } }"), ["limits.disk=9", "limits.net=1"])
    #expect(set.limits.tokens == ["disk": 9, "net": 1])
  }

  @Test(arguments: [
    ("{ disk: 2 }", "{ tokens: { disc: 1 } }", "E022", "did you mean 'disk'?"),
    ("{ disk: 2 }", "{ tokens: { disk: 3 } }", "E018", "'limits' has 2"),
    ("{ disk: 2 }", "{ disk: 1 }", "E011", "expected one of"), ("{ disk: 0 }", "{}", "E014", "from 1"),
    ("{ disk: 2 }", "{ gpus: 1 }", "E011", "did you mean 'gpu'?"), ("{ cpu: 2 }", "{}", "E011", "-j"),
    ("{ gpu: 2 }", "{}", "E011", "--gpus"), ("{ memory: lots }", "{}", "E014", "like 512MiB"),
    ("{ disk: 2 }", "{ gpu: -1 }", "E014", "whole number"), ("[disk]", "{}", "E013", "mapping"),
  ])
  func aMistakeIsSaid(_ limits: String, _ resources: String, _ code: String, _ says: String) throws {
    let found = Fixture.mistakes(text(limits, resources))
    let hit = try #require(found.first { $0.code == code }, "\(found.map(\.message))")
    #expect("\(hit.message)|\(hit.label ?? "")".contains(says))
    #expect(hit.location != nil)
  }

  /// A stage's declaration asks for a token that the pipeline says nothing of: the place is the stage's in the pipeline.
  @Test func aDeclaredTokenNeedsALimitToo() throws {
    var tune = try #require(Fixture.catalog["tune"])
    tune.resources.tokens = ["disk": 1]
    let catalog = StageCatalog([tune, try #require(Fixture.catalog["train"])])
    #expect {
      try Resolver.plan(file: "p.yaml", text: Fixture.good, catalog: catalog)
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E022" && hit?.location?.line == 6 && hit?.help?.contains("--limit disk=1") == true
    }
    #expect(
      try Resolver.plan(file: "p.yaml", text: Fixture.good, catalog: catalog, overrides: ["limits.disk=1"])
        .stages.count == 2)
  }
}
