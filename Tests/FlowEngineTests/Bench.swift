import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowEngine

/// Upper case; an empty text is set aside, "boom" fails, "edit" changes its own source while it is worked on.
struct Upper: Stage {
  static let name = "upper"
  struct Parameters: Decodable, Sendable {
    var suffix: String
    var victim: String
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let item = try context.input("text")
    let text = try String(contentsOfFile: item.path(item.fileNames[0]), encoding: .utf8)
    if text.isEmpty { throw ItemRejected("it is empty") }
    if text == "boom" { throw StageFailure("it went off", help: "do not") }
    if text == "edit" { try Data("else".utf8).write(to: URL(fileURLWithPath: parameters.victim)) }
    context.log("was \(text)")
    context.metric("length", Double(text.count))
    try context.emit("text", files: ["t.txt": .text(text.uppercased() + parameters.suffix)])
  }
}

/// The first letter.
struct First: Stage {
  static let name = "first"
  struct Parameters: Decodable, Sendable {}
  let parameters: Parameters
  func run(_ context: StageContext) throws {
    let text = try String(contentsOfFile: context.input("text").path("t.txt"), encoding: .utf8)
    try context.emit("text", files: ["t.txt": .text(String(text.prefix(1)))])
  }
}

/// All texts by name, one after the other, in `steps` steps of which each is kept.
struct Join: Stage {
  static let name = "join"
  struct Parameters: Decodable, Sendable { var stop: Bool }
  let parameters: Parameters
  func run(_ context: StageContext) throws {
    let kept = context.checkpointDirectory + "/kept"
    var result = (try? String(contentsOfFile: kept, encoding: .utf8)) ?? ""
    context.log(result.isEmpty ? "from the start" : "resumed")
    for item in context.items("texts") where !result.contains(item.item.id + "=") {
      result += item.item.id + "=" + (try String(contentsOfFile: item.path("t.txt"), encoding: .utf8)) + ";"
      try Data(result.utf8).write(to: URL(fileURLWithPath: kept))
      try context.checkCancelled()
    }
    try context.emit("report", id: "all", files: ["all.txt": .text(result)])
  }
}

/// A project in a temporary folder with texts `a`, `b`, `c`, run in this process.
struct Bench {
  let folder: TemporaryFolder
  let store: Store
  var jobs = 2
  var suffix = ""
  var onError = PlannedStage.OnError.skip

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache", durability: .fast)
    for name in ["a", "b", "c"] { try folder.write("texts/\(name).txt", "\(name) text") }
  }

  static let upper = StageDeclaration(
    name: "upper", version: 1, doc: "", per: .item, inputs: [InputDeclaration(name: "text", type: .lyrics)],
    outputs: [OutputDeclaration(name: "text", type: .lyrics)],
    parameters: [
      ParameterDeclaration(name: "suffix", kind: .string, standard: .string("")),
      ParameterDeclaration(name: "victim", kind: .string, standard: .string(""), affectsResult: false),
    ])
  static let first = StageDeclaration(
    name: "first", version: 1, doc: "", per: .item, inputs: [InputDeclaration(name: "text", type: .lyrics)],
    outputs: [OutputDeclaration(name: "text", type: .lyrics)])
  static let join = StageDeclaration(
    name: "join", version: 1, doc: "", per: .all, inputs: [InputDeclaration(name: "texts", type: .lyrics)],
    outputs: [OutputDeclaration(name: "report", type: .report)])

  var plan: Plan {
    func stage(_ declaration: StageDeclaration, _ values: [String: JSON], _ port: String, _ from: Reference)
      -> PlannedStage
    {
      PlannedStage(
        name: declaration.name, declaration: declaration, parameters: values, bindings: [port: [from]],
        resources: Resources(), onError: onError)
    }
    let victim = JSON.string(folder.path + "/texts/b.txt")
    return Plan(
      name: "bench", file: folder.path + "/bench.yaml",
      sources: [PlannedSource(name: "texts", path: folder.path + "/texts")],
      stages: [
        stage(Bench.upper, ["suffix": .string(suffix), "victim": victim], "text", .source("texts")),
        stage(Bench.first, [:], "text", .output(stage: "upper", output: "text")),
        stage(Bench.join, ["stop": false], "texts", .output(stage: "first", output: "text")),
      ],
      results: [PlannedResult(name: "all", references: [.output(stage: "join", output: "report")])])
  }

  var executor: LocalExecutor {
    LocalExecutor(
      store: store, stages: [NativeStage(Upper.self), NativeStage(First.self), NativeStage(Join.self)])
  }

  var engine: Engine { Engine(store: store, executor: executor, jobs: jobs) }

  /// An engine whose store reaches the disk through `disk`.
  func engine(over disk: any FileSystem) throws -> Engine {
    Engine(store: try Store(root: folder.path + "/cache", disk: disk), executor: executor, jobs: jobs)
  }

  func run() async throws -> RunReport { try await engine.run(plan, projectRoot: folder.path) }

  /// What ran, as `stage:items`.
  func ran() async throws -> String { Bench.summary(try await run()) }

  static func summary(_ report: RunReport) -> String {
    report.stages.filter { $0.state == .done }.map { "\($0.name):\($0.items.run)" }.joined(separator: " ")
  }

  var lock: String { folder.text("bench.lock.yaml") }
  var result: String { folder.text("runs/bench/all/all.txt") }
}
