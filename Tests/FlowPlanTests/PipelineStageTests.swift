import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

/// Stages made of stages.
@Suite struct PipelineStageTests {
  private static let tune = """
    stage: tune
    version: 1
    per: item
    inputs: { audio: { type: audio }, truth: { type: stems, optional: true } }
    outputs: { audio: { type: audio }, f0: { type: f0 } }
    params: { fmax: { type: float, default: 1000, min: 20, max: 20000 } }
    """
  private static let train = """
    stage: train
    version: 1
    per: all
    inputs: { audio: { type: audio } }
    outputs: { weights: { type: weights } }
    params: { steps: { type: int, min: 1 } }
    """
  private static let learn = """
    stage: learn
    run: pipeline
    doc: Tunes and trains.
    inputs:
      audio: { type: audio }
      truth: { type: stems, optional: true }
    outputs:
      weights: { type: weights, from: train.weights }
      f0: { type: f0, from: tune.f0 }
    params:
      fmax: { type: float, default: 900 }
      steps: { type: int, default: 5, min: 1, max: 90 }
    stages:
      tune:
        in: { audio: audio, truth: truth }
        with: { fmax: "${params.fmax}" }
      train:
        in: { audio: tune.audio }
        with: { steps: "${params.steps}" }
    """
  /// Two `learn`, one after the other by way of a stage between.
  private static let twice = """
    stage: twice
    run: pipeline
    inputs: { audio: { type: audio } }
    outputs: { weights: { type: weights, from: again.weights } }
    stages:
      before: { uses: tune, in: { audio: audio } }
      again: { uses: learn, in: { audio: before.audio }, with: { steps: 9 } }
    """

  private static func catalog(_ texts: [String: String] = [:]) throws -> StageCatalog {
    let all = ["tune": tune, "train": train, "learn": learn, "twice": twice].merging(texts) { $1 }
    return try StageCatalog(
      parsing: all.sorted { $0.key < $1.key }.map { ("stages/\($0.key).yaml", $0.value) })
  }

  private static func mistakes(_ texts: [String: String]) -> [Diagnostic] {
    do {
      _ = try catalog(texts)
      return []
    } catch { return (error as? Diagnostics)?.all ?? [] }
  }

  private func plan(_ stages: String, outputs: String = "{}") throws -> Plan {
    try Resolver.plan(
      file: "p.yaml",
      text:
        "flow: 1\nparams: { seed: 3 }\nsources: { songs: { path: songs } }\nstages:\n\(stages)\noutputs: \(outputs)\n",
      catalog: try PipelineStageTests.catalog())
  }

  @Test func itIsExpandedIntoItsStages() throws {
    let plan = try plan(
      """
        learn: { in: { audio: songs }, with: { steps: "${params.seed}" } }
        after: { uses: tune, in: { audio: songs, truth: [] } }
      """, outputs: "{ weights: learn.weights }")
    #expect(plan.stages.map(\.name) == ["learn/tune", "learn/train", "after"])
    let (tune, train) = (plan.stages[0], plan.stages[1])
    #expect(tune.bindings == ["audio": [.source("songs")]] && tune.parameters["fmax"] == .double(900))
    #expect(train.bindings == ["audio": [.output(stage: "learn/tune", output: "audio")]])
    #expect(train.parameters["steps"] == .int(3) && train.declaration.name == "train")
    #expect(plan.results[0].references == [.output(stage: "learn/train", output: "weights")])
    #expect(try plan.part(from: [], to: ["learn"]) == ["learn/tune", "learn/train"])
  }

  /// The stages within are what they would be when written out: the same keys.
  @Test func writtenOutItIsTheSame() throws {
    let one = try plan("  learn: { in: { audio: songs } }")
    let other = try plan(
      """
        tune: { in: { audio: songs }, with: { fmax: 900 } }
        train: { in: { audio: tune.audio }, with: { steps: 5 } }
      """)
    #expect(one.stages.map(\.parameters) == other.stages.map(\.parameters))
    #expect(one.stages.map(\.declaration) == other.stages.map(\.declaration))
  }

  @Test func itMayLieInAnother() throws {
    let plan = try plan(
      """
        twice: { in: { audio: songs } }
        end: { uses: train, in: { audio: songs }, with: { steps: 1 } }
      """)
    #expect(
      plan.stages.map(\.name) == ["twice/before", "twice/again/tune", "twice/again/train", "end"])
    #expect(plan.stage("twice/again/tune")?.upstream == ["twice/before"])
    #expect(plan.stage("twice/again/train")?.parameters["steps"] == .int(9))
  }

  @Test func aMatrixMakesAWholeOfItForEachCell() throws {
    let plan = try plan(
      """
        learn: { matrix: { n: [1, 2] }, in: { audio: songs }, with: { steps: "${matrix.n}" } }
      """, outputs: "{ weights: learn.weights, one: \"learn[n=1].weights\" }")
    #expect(
      plan.stages.map(\.name) == [
        "learn[n=1]/tune", "learn[n=1]/train", "learn[n=2]/tune", "learn[n=2]/train",
      ])
    #expect(plan.stages[3].parameters["steps"] == .int(2))
    let weights = try #require(plan.results.first { $0.name == "weights" })
    #expect(
      weights.references == [
        .cell(stage: "learn[n=1]/train", output: "weights", label: "n=1"),
        .cell(stage: "learn[n=2]/train", output: "weights", label: "n=2"),
      ])
    #expect(
      plan.results.first { $0.name == "one" }?.references == [
        .output(stage: "learn[n=1]/train", output: "weights")
      ])
    #expect(try plan.part(from: ["learn[n=2]"], to: [])?.count == 2)
  }

  @Test func settingsAreHandedOn() throws {
    let plan = try plan(
      "  twice: { in: { audio: songs }, timeout: 90s, retry: { timeout: 2 }, retain: pin, on_error: fail }")
    for stage in plan.stages {
      #expect(stage.timeout == 90 && stage.retries == [.timeout: 2] && stage.retain == .pin)
      #expect(stage.onError == .fail)
    }
  }

  @Test func whatIsLeftOutIsLeftOutWhole() throws {
    let plan = try plan(
      """
        learn: { when: false, in: { audio: songs } }
        tune: { in: { audio: songs } }
      """, outputs: "{ f0: [tune.f0, learn.f0] }")
    #expect(plan.stages.map(\.name) == ["tune"] && plan.results[0].references.count == 1)
  }

  @Test(arguments: [
    ("in: { audio: audio, truth: truth }", "in: { audio: audoi }", "E022", "did you mean 'audio'?"),
    ("in: { audio: audio, truth: truth }", "in: { truth: truth }", "E021", "needs the input 'audio'"),
    ("audio: tune.audio", "audio: tune.f0", "E023", "takes audio, but tune.f0 is f0"),
    ("truth: truth }", "truth: audio }", "E023", "takes stems"),
    ("from: train.weights", "from: train.wieghts", "E022", "did you mean 'weights'?"),
    ("from: train.weights", "from: tune.f0", "E023", "takes weights, but tune.f0 is f0"),
    ("{ type: f0, from: tune.f0 }", "{ type: f0 }", "E015", "needs 'from'"),
    ("${params.fmax}", "${params.fmx}", "E025", "did you mean 'fmax'?"),
    ("{ type: float, default: 900 }", "{ type: float, default: 90000 }", "E018", "at most 20000"),
    ("doc: Tunes", "version: 2\ndoc: Tunes", "E011", "in the stages within"),
    ("  truth: { type: stems, optional: true }", "  truth: { type: stems, whole: true }", "E011", "whole"),
    ("default: 900 }", "default: 900, affects: nothing }", "E011", "affects"),
    ("  train:\n", "  trian:\n", "E020", "did you mean 'train'?"),
    ("  tune:\n    in: { audio: audio", "  tune:\n    in: { audio: tune.audio", "E024", "circle"),
  ])
  func aMistakeInsideIsSaidWithItsPlace(_ from: String, _ to: String, _ code: String, _ says: String) throws {
    #expect(PipelineStageTests.learn.contains(from))
    let found = PipelineStageTests.mistakes([
      "learn": PipelineStageTests.learn.replacingOccurrences(of: from, with: to)
    ])
    let hit = try #require(found.first { $0.code == code }, "\(found.map(\.message))")
    #expect("\(hit.message)|\(hit.label ?? "")".contains(says), "\(hit)")
    #expect(hit.location?.file == "stages/learn.yaml")
    #expect(hit.sourceLine?.isEmpty == false)
  }

  @Test func circlesAreRefused() throws {
    let own = PipelineStageTests.learn.replacingOccurrences(
      of: "  tune:\n", with: "  tune:\n    uses: learn\n")
    let one = PipelineStageTests.mistakes(["learn": own])
    #expect(one.map(\.code) == ["E024"] && one[0].message.contains("learn -> learn"))
    let other = PipelineStageTests.learn.replacingOccurrences(
      of: "  tune:\n", with: "  tune:\n    uses: twice\n")
    let two = PipelineStageTests.mistakes(["learn": other])
    #expect(two.map(\.code) == ["E024"] && two[0].message.contains("learn -> twice -> learn"))
    #expect(two[0].location != nil)
  }

  /// A value that only a stage within refuses is said where it goes wrong, and who gave it.
  @Test func aValueThatAnInnerStageRefusesSaysWhoUsesIt() throws {
    #expect {
      try plan("  twice: { in: { audio: songs } }\n  learn: { in: { audio: songs }, with: { fmax: 5 } }")
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E018" && hit?.location?.file == "stages/learn.yaml"
        && hit?.notes == ["in stage 'learn' (p.yaml:6)"]
    }
  }

  /// Each uses the one before twice: 2^n stages from n short texts.
  @Test(arguments: [(10, nil), (15, "more than 20000 stages"), (20, "more than 16 deep")])
  func howManyStagesItMayBecomeIsBounded(_ levels: Int, _ says: String?) throws {
    var texts = ["tune": PipelineStageTests.tune]
    for i in 1...levels {
      let inner = i == 1 ? "tune" : "n\(i - 1)"
      texts["n\(i)"] = """
        stage: n\(i)
        run: pipeline
        inputs: { audio: { type: audio } }
        outputs: { f0: { type: f0, from: a.f0 } }
        stages: { a: { uses: \(inner), in: { audio: audio } }, b: { uses: \(inner), in: { audio: audio } } }
        """
    }
    let catalog = try StageCatalog(parsing: texts.map { ("\($0.key).yaml", $0.value) })
    let text = "flow: 1\nsources: { s: { path: s } }\nstages: { n\(levels): { in: { audio: s } } }\n"
    do {
      let plan = try Resolver.plan(file: "p.yaml", text: text, catalog: catalog)
      #expect(says == nil && plan.stages.count == 1 << levels)
    } catch let error as Diagnostics {
      #expect(error.all.allSatisfy { $0.code == "E018" && $0.message.contains(says ?? "-") }, "\(error.all)")
    }
  }
}
