import FlowCore
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine
@testable import FlowStore

@Suite struct IncrementalityTests {
  @Test func theSecondRunDoesNothingAndKeepsTheLockFile() async throws {
    let bench = try Bench()
    #expect(try await bench.ran() == "upper:3 first:3 join:1")
    #expect(bench.result == "a=A;b=B;c=C;")
    let lock = bench.lock
    #expect(lock.contains("upper@1") && lock.contains("items: 3"))
    #expect(try await bench.ran() == "")
    #expect(bench.lock == lock)
  }

  @Test func aParameterRunsItsStageAndWhatDependsOnIt() async throws {
    var bench = try Bench()
    _ = try await bench.run()
    let lock = bench.lock
    bench.suffix = "!"
    let planned = try bench.engine.assess(bench.plan)
    #expect(planned.stages.map(\.state) == [.run, .mayRun, .mayRun])
    #expect(planned.stages[0].reasons.map(\.description) == [#"suffix: "" -> "!""#])
    // The first letter stays the same, so what follows is not run: early cutoff.
    #expect(try await bench.ran() == "upper:3 first:3")
    #expect(bench.lock != lock)
    bench.suffix = ""
    #expect(try await bench.ran() == "")
    #expect(bench.lock == lock)
  }

  @Test func anEditedFileRunsItsItemOnly() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    try bench.folder.write("texts/b.txt", "b else")
    #expect(try await bench.ran() == "upper:1 first:1")
    try bench.folder.write("texts/b.txt", "x else")
    #expect(try await bench.ran() == "upper:1 first:1 join:1")
    #expect(bench.result == "a=A;b=X;c=C;")
  }

  @Test func anAddedRenamedOrRemovedFileCostsWhatItMust() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    try bench.folder.write("texts/d.txt", "d text")
    let report = try await bench.run()
    #expect(Bench.summary(report) == "upper:1 first:1 join:1")
    #expect(report.stages[0].reasons == [.newItems(["d"])])
    let (from, to) = (bench.folder.path + "/texts/d.txt", bench.folder.path + "/texts/e.txt")
    rename(from, to)
    // The name enters only where all items meet.
    #expect(try await bench.ran() == "join:1")
    #expect(bench.result == "a=A;b=B;c=C;e=D;")
    unlink(to)
    #expect(try await bench.ran() == "")
    #expect(bench.result == "a=A;b=B;c=C;")
  }

  @Test func touchingAndCopyingBackRunNothing() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    try bench.folder.write("texts/a.txt", "a text")
    #expect(try await bench.ran() == "")
  }

  @Test func aRaisedVersionRunsTheStage() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    var plan = bench.plan
    plan.stages[1].declaration.version = 2
    let report = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(Bench.summary(report) == "first:3")
    #expect(report.stages[1].reasons == [.versionChanged(from: "1", to: "2")])
  }

  /// Matrix products sum in another order on another class of processor: what was made there is not what would be made here.
  @Test func theClassOfProcessorCountsWhereNumbersDependOnIt() async throws {
    let bench = try Bench()
    var plan = bench.plan
    plan.stages[1].declaration.numeric = .blas
    var engine = bench.engine
    engine.processor = "avx2"
    _ = try await engine.run(plan, projectRoot: bench.folder.path)
    engine.processor = "avx512"
    let report = try await engine.run(plan, projectRoot: bench.folder.path)
    #expect(Bench.summary(report) == "first:3")
    #expect(report.stages[1].reasons == [.numericChanged(from: "blas/avx2", to: "blas/avx512")])
    engine.processor = "avx2"
    #expect(Bench.summary(try await engine.run(plan, projectRoot: bench.folder.path)) == "")
  }

  /// What a CUDA device makes has keys of its own; what the CPU makes has those that it had before there was a choice.
  @Test func theDeviceCountsWhereItIsUsed() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    func ran(_ device: String, on accelerator: String?) async throws -> String {
      var plan = bench.plan
      var engine = Engine(
        store: bench.store, executor: bench.executor, capacity: Capacity(threads: 2, gpus: ["0"]),
        observe: { _ in })
      plan.stages[1].parameters["device"] = .string(device)
      plan.stages[1].parameters["precision"] = "bfloat16"
      engine.accelerator = { _, _ in accelerator }
      return Bench.summary(try await engine.run(plan, projectRoot: bench.folder.path))
    }
    #expect(try await ran("cpu", on: "card A") == "")
    #expect(try await ran("auto", on: nil) == "")
    #expect(try await ran("auto", on: "card A") == "first:3")
    #expect(try await ran("cuda", on: "card A") == "")
    #expect(try await ran("cuda", on: "card B") == "first:3")
    #expect(try await ran("cpu", on: nil) == "")
  }

  @Test func resourcesAndSilentParametersAreInNoKey() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    var plan = bench.plan
    plan.stages[0].resources = Resources(cpu: 7, memory: 1)
    plan.stages[0].parameters["victim"] = "elsewhere"
    let report = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(Bench.summary(report) == "")
  }

  @Test func theLockFileIsTheSameInAnotherFolderWithOtherThreads() async throws {
    let one = try Bench()
    var other = try Bench()
    other.jobs = 5
    _ = try await one.run()
    _ = try await other.run()
    #expect(one.lock == other.lock)
    #expect(!one.lock.contains(one.folder.path))
  }

  @Test func twoRunsAtOnceShareTheWork() async throws {
    let bench = try Bench()
    for i in 0..<20 { try bench.folder.write("texts/n\(i).txt", "\(i) number") }
    async let one = bench.run()
    async let other = bench.run()
    let reports = try await [one, other]
    #expect(!reports.contains { $0.failed })
    #expect(bench.store.recordKeys().count == 23 + 23 + 1)
    #expect(try await bench.ran() == "")
  }

  @Test func resultsFollowTheItems() async throws {
    let bench = try Bench()
    var plan = bench.plan
    plan.results = [PlannedResult(name: "texts", references: [.output(stage: "upper", output: "text")])]
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.folder.text("runs/bench/texts/a.txt") == "A TEXT")
    try bench.folder.write("texts/album/side/d.txt", "d text")
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.folder.text("runs/bench/texts/album/side/d.txt") == "D TEXT")
    unlink(bench.folder.path + "/texts/album/side/d.txt")
    unlink(bench.folder.path + "/texts/a.txt")
    unlink(bench.folder.path + "/runs/bench/texts/b.txt")
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.folder.read("runs/bench/texts/a.txt") == nil)
    #expect(bench.folder.text("runs/bench/texts/b.txt") == "B TEXT")
    #expect(
      !FileManager.default.fileExists(atPath: bench.folder.path + "/runs/bench/texts/album"),
      "no empty folders are left")
  }
}
