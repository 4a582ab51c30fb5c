import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

@Suite struct RankPlanTests {
  private static let declaration = """
    stage: learn
    version: 1
    doc: d.
    per: all
    run: native
    inputs: { audio: { type: audio, doc: d. } }
    outputs: { weights: { type: weights, doc: d. } }
    params:
      batch: { type: int, default: 4, min: 1, doc: d. }
      rate: { type: float, default: 1, doc: d. }
      ranks: { type: int, default: 1, min: 1, divides: batch, doc: d. }
    """

  private static let pipeline = """
    flow: 1
    sources: { songs: { path: songs } }
    stages:
      tune: { in: { audio: songs } }
      learn: { in: { audio: tune.audio }, with: { batch: 6, ranks: 3 } }
    """

  private func catalog() throws -> StageCatalog {
    let learn = try #require(StageCatalog.parse(file: "learn.yaml", text: RankPlanTests.declaration).0)
    return StageCatalog(Fixture.catalog.stages.values + [learn])
  }

  @Test func theParameterSaysOnHowManyRanks() throws {
    let plan = try Resolver.plan(file: "p.yaml", text: RankPlanTests.pipeline, catalog: catalog())
    #expect(plan.stage("learn")?.ranks == 3 && plan.stage("tune")?.ranks == 1)
    #expect(plan.stage("learn")?.keyParameters["ranks"] == .int(3))
  }

  @Test(arguments: [
    ("ranks: 3 }", "ranks: 4 }", "E018", 5, "'ranks' of stage 'learn' is 4, which doesn't divide 'batch', 6"),
    ("ranks: 3 }", "ranks: 4 }", "E018", 5, "batch: 8"),
    ("ranks: 3 }", "ranks: 0 }", "E018", 5, "at least 1"),
    ("ranks: 3 }", "rank: 3 }", "E011", 5, "did you mean 'ranks'?"),
    (
      "tune: { in: { audio: songs }", "tune: { in: { audio: songs }, with: { ranks: 2 }", "E011", 4,
      "share their work: learn"
    ),
    (
      "tune: { in: { audio: songs }", "tune: { in: { audio: songs }, ranks: 2", "E011", 4,
      "share their work: learn"
    ),
    ("with: { batch: 6, ranks: 3 }", "ranks: 3", "E011", 5, "under 'with'"),
    ("with: { batch: 6, ranks: 3 }", "resources: { ranks: 3 }", "E011", 5, "under 'with'"),
  ])
  func aMistakeIsSaidAtItsPlace(_ from: String, _ to: String, _ code: String, _ line: Int, _ says: String)
    throws
  {
    let text = RankPlanTests.pipeline.replacingOccurrences(of: from, with: to)
    #expect {
      try Resolver.plan(file: "p.yaml", text: text, catalog: catalog())
    } throws: { error in
      let all = (error as? Diagnostics)?.all ?? []
      return all.contains { mistake in
        let texts = [mistake.message, mistake.label ?? "", mistake.help ?? ""]
        return mistake.code == code && mistake.location?.line == line && texts.contains { $0.contains(says) }
      }
    }
  }

  @Test(arguments: [
    ("divides: batch", "divides: btach", "did you mean 'batch'?"),
    ("divides: batch", "divides: rate", "no other whole"),
    ("divides: batch", "divides: ranks", "no other whole"),
    (
      "type: float, default: 1", "type: float, divides: batch, default: 1",
      "not for parameters of type 'float'"
    ),
  ])
  func whatCantBeDividedIsNoted(_ from: String, _ to: String, _ says: String) {
    let text = RankPlanTests.declaration.replacingOccurrences(of: from, with: to)
    let problems = StageCatalog.parse(file: "learn.yaml", text: text).1
    #expect(
      problems.contains { "\($0.message) \($0.label ?? "")".contains(says) && $0.location != nil },
      "\(problems)")
  }
}
