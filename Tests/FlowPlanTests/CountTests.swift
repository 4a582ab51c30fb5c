import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

/// Lists with an element for each of what is bound to an input.
@Suite struct CountTests {
  private static let declaration = """
    stage: learn
    version: 1
    doc: d.
    per: all
    run: native
    inputs: { audio: { type: audio, doc: d. }, truth: { type: stems, optional: true } }
    outputs: { weights: { type: weights, doc: d. } }
    params:
      shares: { type: floats, default: [], min: 0, each: audio, doc: d. }
      other: { type: floats, default: [], doc: d. }
    """

  private static let pipeline = """
    flow: 1
    sources: { a: { path: a }, b: { path: b } }
    stages:
      tune: { in: { audio: "${matrix.set}" }, matrix: { set: [a, b] } }
      one: { uses: tune, in: { audio: a } }
      learn: { in: { audio: [one.audio, tune.audio] }, with: { shares: [0.5, 0.3, 0.2] } }
    """

  private func problems(_ from: String, _ to: String) throws -> [Diagnostic] {
    let learn = try #require(StageCatalog.parse(file: "learn.yaml", text: CountTests.declaration).0)
    let catalog = StageCatalog(Fixture.catalog.stages.values + [learn])
    do {
      _ = try Resolver.plan(
        file: "p.yaml", text: CountTests.pipeline.replacingOccurrences(of: from, with: to), catalog: catalog)
      return []
    } catch { return (error as? Diagnostics)?.all ?? [] }
  }

  /// Each cell of a matrix is one; no value at all is right too.
  @Test(arguments: ["[0.5, 0.3, 0.2]", "[]", "[1, 0, 0]"])
  func asManyAsAreBound(_ values: String) throws {
    #expect(try problems("[0.5, 0.3, 0.2]", values).isEmpty)
  }

  @Test(arguments: [
    ("[0.5, 0.3, 0.2]", "[0.5, 0.5]", "E018", "has 2 values, and 'audio' takes from 3"),
    ("[0.5, 0.3, 0.2]", "[1, 1, 1, 1]", "E018", "has 4 values, and 'audio' takes from 3"),
    ("[a, b] }", "[a] }", "E018", "has 3 values, and 'audio' takes from 2"),
    ("[0.5, 0.3, 0.2]", "[0.5, -0.3, 0.2]", "E018", "at least 0"),
  ])
  func anotherNumberIsAMistake(_ from: String, _ to: String, _ code: String, _ says: String) throws {
    let problems = try problems(from, to)
    #expect(problems.count == 1 && problems[0].code == code && problems[0].location?.line == 6, "\(problems)")
    #expect(problems.first?.message.contains(says) ?? false, "\(problems)")
  }

  @Test(arguments: [
    ("each: audio", "each: audios", "did you mean 'audio'?"),
    ("each: audio", "each: other", "no input here"),
    ("other: { type: floats, default: []", "other: { type: float, default: 1, each: audio", "not for"),
  ])
  func whatCantBeCountedIsNoted(_ from: String, _ to: String, _ says: String) {
    let text = CountTests.declaration.replacingOccurrences(of: from, with: to)
    let problems = StageCatalog.parse(file: "learn.yaml", text: text).1
    #expect(
      problems.contains { "\($0.message) \($0.label ?? "")".contains(says) && $0.location != nil },
      "\(problems)")
  }
}
