import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

@Suite struct ResolverTests {
  @Test func aPipelineBecomesTypedStagesInOrder() throws {
    let plan = try Fixture.plan(Fixture.good)
    #expect(plan.name == "p")
    #expect(plan.sources.map(\.path) == ["dir/songs"])
    #expect(plan.sources[0].license == "CC0-1.0")
    #expect(plan.stages.map(\.name) == ["tune", "train"])
    let tune = try #require(plan.stage("tune"))
    #expect(tune.parameters["fmax"] == .double(900))
    #expect(tune.parameters["hop"] == .int(512))
    #expect(tune.bindings["audio"] == [.source("songs")])
    #expect(tune.keyParameters["chatty"] == nil)
    #expect(plan.stage("train")?.parameters["steps"] == .int(7))
    #expect(plan.results.map(\.references) == [[Reference.output(stage: "train", output: "weights")]])
  }

  @Test func stagesAreOrderedByWhatTheyTake() throws {
    let text = """
      flow: 1
      sources: { songs: { path: songs } }
      stages:
        train: { in: { audio: second.audio }, with: { steps: 1 } }
        second: { uses: tune, in: { audio: first.audio } }
        first: { uses: tune, in: { audio: songs } }
      """
    #expect(try Fixture.plan(text).stages.map(\.name) == ["first", "second", "train"])
  }

  /// What a person may change without meaning anything: comments, order, quotes, an explicit default, block style.
  @Test(arguments: [
    ("with: { fmax: 900 }", "with: { hop: 512, fmax: 900.0 } # loud"),
    ("with: { fmax: 900 }", "with:\n          fmax: 9e2\n          mode: 'exact'"),
    ("params: { seed: 7, low: 500 }", "params:\n  low: 500\n  seed: 7 # drawn by dice\n"),
    ("in: { audio: tune.audio }", "in:\n          audio: [tune.audio]"),
  ])
  func spellingDoesNotMatter(_ from: String, _ to: String) throws {
    let (one, other) = (
      try Fixture.plan(Fixture.good), try Fixture.plan(Fixture.good.replacingOccurrences(of: from, with: to))
    )
    #expect(one.stages.map(\.parameters) == other.stages.map(\.parameters))
    #expect(one.stages.map(\.bindings) == other.stages.map(\.bindings))
  }

  @Test func setOverridesAndItsPathsAreOfTheWorkingFolder() throws {
    let plan = try Fixture.plan(
      Fixture.good,
      [
        "sources.songs.path=mine", "stages.tune.with.fmax=800", "params.seed=3",
        "stages.tune.resources.cpu=2",
      ])
    #expect(plan.sources[0].path == "mine")
    #expect(plan.stage("tune")?.parameters["fmax"] == .double(800))
    #expect(plan.stage("train")?.parameters["steps"] == .int(3))
    #expect(plan.stage("tune")?.resources.cpu == 2)
  }

  @Test func textAroundAReferenceIsInterpolated() throws {
    let text = Fixture.good.replacingOccurrences(of: "path: songs", with: #"path: "take-${params.seed}/x""#)
    #expect(try Fixture.plan(text).sources[0].path == "dir/take-7/x")
  }

  @Test func audioIsTakenFromStemsAndSamplesToo() throws {
    let stems = StageCatalog([
      StageDeclaration(
        name: "split", version: 1, doc: "", per: .item,
        inputs: [InputDeclaration(name: "audio", type: .audio)],
        outputs: [OutputDeclaration(name: "vocals", type: .stems), OutputDeclaration(name: "f0", type: .f0)])
    ])
    func text(_ port: String) -> String {
      """
      flow: 1
      sources: { songs: { path: s } }
      stages:
        split: { in: { audio: songs } }
        again: { uses: split, in: { audio: split.\(port) } }
      """
    }
    #expect(throws: Never.self) { try Resolver.plan(file: "p.yaml", text: text("vocals"), catalog: stems) }
    #expect(throws: Diagnostics.self) { try Resolver.plan(file: "p.yaml", text: text("f0"), catalog: stems) }
  }

  @Test func listsAreTypedElementByElement() throws {
    let text = Fixture.good.replacingOccurrences(of: "{ fmax: 900 }", with: "{ range: [1, 2.5] }")
    let range = try Fixture.plan(text).stage("tune")?.parameters["range"]
    #expect(range == JSON.array([.double(1), .double(2.5)]))
    let bad = Fixture.good.replacingOccurrences(of: "{ fmax: 900 }", with: "{ range: [1, 22] }")
    #expect(Fixture.mistakes(bad).map(\.code) == ["E018"])
  }
}
