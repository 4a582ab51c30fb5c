import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Testing

@testable import FlowEngine

/// Gives, for each item, of which part of the input it is.
private struct Parts: Stage {
  static let name = "parts"
  struct Parameters: Decodable, Sendable { var shares: [Double] }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    for item in context.items("audio") {
      let part = item.item.attributes[StageDeclaration.part]
      let name = item.item.id.split { "/=[]".contains($0) }.joined(separator: "-")
      try context.emit("report", id: name, files: ["part": .text(part.map { "\($0.canonical)" } ?? "none")])
    }
  }
}

@Suite struct PartTests {
  private static let declaration = """
    stage: parts
    version: 1
    doc: d.
    per: all
    run: native
    inputs: { audio: { type: audio, doc: d. } }
    outputs: { report: { type: report, doc: d. } }
    params: { shares: { type: floats, default: [], each: audio, doc: d. } }
    """

  /// A stage that has a value for each of its references knows of which each item is; the order counts, so it is in the key.
  @Test func itemsSayOfWhichPartTheyAre() async throws {
    let folder = try TemporaryFolder()
    for name in ["a/one.wav", "a/two.wav", "b/one.wav", "b/three.wav"] { try folder.write(name, name) }
    let store = try Store(root: folder.path + "/cache")
    let engine = Engine(
      store: store, executor: LocalExecutor(store: store, stages: [NativeStage(Parts.self)]), jobs: 1)
    func run(_ bound: String, _ shares: String) async throws -> (parts: [String: String], ran: Int) {
      let pipeline = """
        flow: 1
        sources: { a: { path: a }, b: { path: b } }
        stages: { parts: { in: { audio: \(bound) }, with: { shares: \(shares) } } }
        """
      let plan = try Resolver.plan(
        file: folder.path + "/p.yaml", text: pipeline,
        catalog: StageCatalog(parsing: [("parts.yaml", PartTests.declaration)]))
      let report = try await engine.run(plan, projectRoot: folder.path)
      let stage = try #require(report.stages.first { $0.name == "parts" })
      var parts: [String: String] = [:]
      for item in stage.outputs?["report"]?.items ?? [] {
        parts[item.id] = String(decoding: try store.get(item.files[0].digest), as: UTF8.self)
      }
      return (parts, stage.items.run)
    }
    let (plain, _) = try await run("[a, b]", "[]")
    #expect(plain == ["one": "none", "two": "none", "three": "none"])
    let (weighted, _) = try await run("[a, b]", "[1, 2]")
    #expect(weighted == ["one": "0", "two": "0", "three": "1"])
    let (other, ran) = try await run("[b, a]", "[1, 2]")
    #expect(other == ["one": "0", "three": "0", "two": "1"] && ran == 1)
    #expect(try await run("[a, b]", "[1, 2]").ran == 0)
    #expect(try await run("a", "[3]").parts == ["one": "0", "two": "0"])
  }
}
