import FlowPlan
import FlowStore
import FlowTestSupport

@testable import FlowEngine

/// A project in a temporary folder whose stages are texts that declare commands.
struct DeclaredProject {
  let folder: TemporaryFolder
  let store: Store

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache")
  }

  var engine: Engine {
    Engine(store: store, executor: LocalExecutor(store: store, stages: []), jobs: 2)
  }

  /// The plan of `pipeline` over `stages`, each of which begins with its name.
  func plan(_ pipeline: String, stages: [String], overrides: [String] = []) throws -> Plan {
    let named = stages.map { text in
      ("\(text.split(separator: "\n")[0].dropFirst("stage: ".count)).yaml", text)
    }
    return try Resolver.plan(
      file: folder.path + "/p.yaml", text: pipeline, catalog: StageCatalog(parsing: named),
      overrides: overrides)
  }

  func run(_ plan: Plan) async throws -> RunReport {
    try await engine.run(plan, projectRoot: folder.path)
  }
}
