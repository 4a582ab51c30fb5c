import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowEngine

/// Resources in whole runs, with command stages.
@Suite struct ResourceRunTests {
  private func stage(_ bench: Bench, _ script: String, _ resources: Resources) -> Plan {
    var declaration = StageDeclaration(
      name: "run", version: 1, doc: "", per: .item, inputs: [InputDeclaration(name: "text", type: .lyrics)],
      outputs: [OutputDeclaration(name: "text", type: .lyrics)])
    var template = CommandTemplate(words: ["sh", "-c", script, "sh", "{out.text}", bench.folder.path])
    template.sandbox = false
    declaration.run = .command(template)
    var plan = bench.plan
    plan.stages = [
      PlannedStage(
        name: "run", declaration: declaration, parameters: [:], bindings: ["text": [.source("texts")]],
        resources: resources)
    ]
    plan.results = [PlannedResult(name: "out", references: [.output(stage: "run", output: "text")])]
    return plan
  }

  private func run(_ plan: Plan, _ bench: Bench, _ capacity: Capacity, _ events: EventList? = nil)
    async throws
    -> RunReport
  {
    try await Engine(
      store: bench.store, executor: bench.executor, capacity: capacity, observe: { events?.add($0) }
    ).run(plan, projectRoot: bench.folder.path)
  }

  private static let visible = "printf %s \"$CUDA_VISIBLE_DEVICES\" > \"$1\"/gpu.txt"

  @Test func aProgramSeesTheGPUsThatItWasGivenAndNoOthers() async throws {
    let bench = try Bench()
    let capacity = Capacity(threads: 1, gpus: ["4", "6"])
    _ = try await run(stage(bench, ResourceRunTests.visible, Resources(gpu: 1)), bench, capacity)
    #expect(bench.folder.text("runs/bench/out/a.txt") == "4")
    let two = try Bench()
    _ = try await run(stage(two, ResourceRunTests.visible, Resources(gpu: 2)), two, capacity)
    #expect(two.folder.text("runs/bench/out/b.txt") == "4,6")
    let none = try Bench()
    _ = try await run(stage(none, ResourceRunTests.visible, Resources()), none, capacity)
    #expect(none.folder.text("runs/bench/out/c.txt").isEmpty)
  }

  @Test func withoutAGPUNothingRunsUnlessAllIsThere() async throws {
    let bench = try Bench()
    let plan = stage(bench, ResourceRunTests.visible, Resources(gpu: 1))
    await #expect {
      try await self.run(plan, bench, Capacity(threads: 1))
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E035" && hit?.message.contains("needs a GPU") == true
    }
    #expect(bench.store.recordKeys().isEmpty)
    _ = try await run(plan, bench, Capacity(threads: 1, gpus: ["0"]))
    // What was made with one is used without one.
    #expect(try await run(plan, bench, Capacity(threads: 1)).stages[0].state == .cached)
  }

  /// Two items at once would meet in the folder that each makes and removes.
  @Test func aTokenKeepsActionsApart() async throws {
    let bench = try Bench()
    var plan = stage(
      bench, "mkdir \"$2\"/lock && sleep 0.05 && rmdir \"$2\"/lock && echo x > \"$1\"/o.txt",
      Resources(tokens: ["disk": 1]))
    plan.limits.tokens = ["disk": 1]
    let report = try await run(plan, bench, Capacity(threads: 4))
    #expect(report.stages[0].quarantined.isEmpty, "\(report.stages[0].quarantined)")
  }

  @Test func whatWantsMoreMemoryThanThereIsRunsAloneAndSaysSo() async throws {
    let bench = try Bench()
    let plan = stage(
      bench, "mkdir \"$2\"/lock && sleep 0.05 && rmdir \"$2\"/lock && echo x > \"$1\"/o.txt",
      Resources(memory: 1 << 40))
    let events = EventList()
    let report = try await run(plan, bench, Capacity(threads: 4, memory: 1 << 30), events)
    #expect(report.stages[0].quarantined.isEmpty, "\(report.stages[0].quarantined)")
    #expect(
      events.warnings == ["wants 1048576 MB of memory of 1024 MB; its actions run alone, one after the other"]
    )
  }

  /// Killed the first time: again with twice the memory; the log and the record are those of the try that did it.
  @Test func wantOfMemoryIsTriedAgainWithMore() async throws {
    let bench = try Bench()
    for name in ["b", "c"] { unlink(bench.folder.path + "/texts/\(name).txt") }
    let script =
      "echo x >> \"$2\"/tries; [ $(wc -l < \"$2\"/tries) -ge 3 ] || kill -9 $$; echo done > \"$1\"/o.txt"
    var plan = stage(bench, script, Resources(memory: 100 << 20))
    let capacity = Capacity(threads: 1, memory: 350 << 20)
    plan.stages[0].retries = [.outOfMemory: 1]
    #expect(try await run(plan, bench, capacity).failed)
    unlink(bench.folder.path + "/tries")
    plan.stages[0].retries = [.outOfMemory: 2]
    let events = EventList()
    #expect(try await !run(plan, bench, capacity, events).failed)
    #expect(bench.folder.text("tries") == "x\nx\nx\n")
    #expect(events.retries.count == 2 && events.retries[0].contains("next with 200 MB set aside"))
    #expect(events.retries.last?.contains("next alone") == true)
  }

  @Test func memoryAndTimeAreMeasuredAndForetold() async throws {
    let bench = try Bench()
    // A string of 40 MB in the shell.
    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' a); sleep 0.1; echo ${#x} > \"$1\"/o.txt"
    let plan = stage(bench, script, Resources(memory: 1 << 20))
    let engine = Engine(store: bench.store, executor: bench.executor, jobs: 3)
    #expect(try engine.assess(plan).forecast == nil)
    let report = try await engine.run(plan, projectRoot: bench.folder.path)
    #expect(report.stages[0].peakMemory > 20_000_000)
    #expect(try engine.assess(plan).forecast == nil)
    var edited = plan
    edited.stages[0].declaration.version = 2
    let assessed = try engine.assess(edited)
    #expect(assessed.stages[0].expectedMemory > 24_000_000)
    let forecast = try #require(assessed.forecast)
    #expect(forecast.seconds > 0.1 && forecast.seconds <= (assessed.stages[0].expectedSeconds ?? 0))
    #expect(forecast.memory >= 3 * assessed.stages[0].expectedMemory)
    // A part of the items costs a part.
    try bench.folder.write("texts/d.txt", "d text")
    let part = try #require(try engine.assess(plan).stages[0].expectedSeconds)
    #expect(part > 0 && part < (assessed.stages[0].expectedSeconds ?? 0) / 2)
  }

  @Test func outputsThatAreNeverKeptGoWithTheRun() async throws {
    let bench = try Bench()
    var plan = bench.plan
    for i in plan.stages.indices { plan.stages[i].retain = .never }
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.result.hasPrefix("a=A;"))
    #expect(
      Set(bench.store.objectDigests()).isDisjoint(with: [
        Digest(of: Array("A TEXT".utf8)), Digest(of: Array("A".utf8)), Digest(of: Array(bench.result.utf8)),
      ]))
    let again = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(again.stages.allSatisfy { $0.state == .cached })
  }
}

/// What a run said.
private final class EventList: Sendable {
  private let events = Mutex<[RunEvent]>([])
  func add(_ event: RunEvent) { events.withLock { $0.append(event) } }
  var warnings: [String] {
    events.withLock { $0.compactMap { if case .warning(_, let text) = $0 { text } else { nil } } }
  }
  var retries: [String] {
    events.withLock { $0.compactMap { if case .retry(_, _, let text) = $0 { text } else { nil } } }
  }
}
