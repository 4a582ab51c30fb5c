import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation
import Testing

@testable import FlowEngine

/// How much the torture tests do, and from which seed: little unless `scripts/torture-store` asks for more.
enum Torture {
  static func count(_ name: String, _ standard: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? standard
  }
  static let seed = UInt64(count("FLOW_TORTURE_SEED", 1))
  /// A line that the script looks for.
  static func say(_ test: String, _ counts: String) { print("torture: \(test) | \(counts) | \(seed)") }
}

/// A project at a given place, over a given disk: three texts in upper case, then all in one.
struct TortureBench {
  let root: String
  let store: Store
  var suffix: String

  init(
    root: String, disk: any FileSystem = RealFileSystem(), durability: Durability = .fast, suffix: String = ""
  )
    throws
  {
    self.root = root
    self.suffix = suffix
    store = try Store(root: root + "/cache", disk: disk, durability: durability)
  }

  /// Writes the texts, long enough to be torn.
  static func prepare(_ root: String) throws {
    try FileManager.default.createDirectory(atPath: root + "/texts", withIntermediateDirectories: true)
    for name in ["a", "b", "c"] {
      var random = Philox(seed: 5, label: name)
      let text = (0..<200).map { _ in "\(random.next() % 1000)" }.joined(separator: " ")
      try Data("\(name) \(text)".utf8).write(to: URL(fileURLWithPath: "\(root)/texts/\(name).txt"))
    }
  }

  var plan: Plan {
    let upper = PlannedStage(
      name: "upper", declaration: Bench.upper, parameters: ["suffix": .string(suffix), "victim": ""],
      bindings: ["text": [.source("texts")]], resources: Resources())
    let join = PlannedStage(
      name: "join", declaration: Bench.join, parameters: ["stop": false],
      bindings: ["texts": [.output(stage: "upper", output: "text")]], resources: Resources())
    return Plan(
      name: "bench", file: root + "/bench.yaml",
      sources: [PlannedSource(name: "texts", path: root + "/texts")],
      stages: [upper, join],
      results: [
        PlannedResult(name: "all", references: [.output(stage: "join", output: "report")]),
        PlannedResult(name: "texts", references: [.output(stage: "upper", output: "text")]),
      ])
  }

  func run() async throws -> RunReport {
    let executor = LocalExecutor(store: store, stages: [NativeStage(Upper.self), NativeStage(Join.self)])
    return try await Engine(store: store, executor: executor, jobs: 1).run(plan, projectRoot: root)
  }

  /// What is acknowledged: the lock file and the results by path; `nil` for what isn't there.
  var outputs: [String: Data?] {
    var result: [String: Data?] = ["lock": FileManager.default.contents(atPath: root + "/bench.lock.yaml")]
    for name in ["all/all.txt", "texts/a.txt", "texts/b.txt", "texts/c.txt"] {
      result[name] = .some(FileManager.default.contents(atPath: "\(root)/runs/bench/\(name)"))
    }
    return result
  }

  /// The files of the cache that say something.
  var cacheFiles: [String] {
    let all = FileManager.default.enumerator(atPath: store.root)?.compactMap { $0 as? String } ?? []
    return all.filter { name in
      var status = stat()
      let isState = ["objects/", "actions/", "runs/", "stat"].contains { name.hasPrefix($0) }
      return isState && lstat("\(store.root)/\(name)", &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }.sorted()
  }
}
