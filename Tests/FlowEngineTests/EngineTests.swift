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

@Suite struct FaultTests {
  /// Also where every item lies in a folder below that of the listing.
  @Test func whatAKilledRunWasWritingBesideAListingIsRemoved() async throws {
    let bench = try Bench()
    for name in ["a", "b", "c"] { unlink(bench.folder.path + "/texts/\(name).txt") }
    try bench.folder.write("texts/album/d.txt", "d text")
    var plan = bench.plan
    plan.results = [PlannedResult(name: "texts", references: [.output(stage: "upper", output: "text")])]
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    let place = Temporaries.name().split(separator: "-")[0]
    let left = "runs/bench/texts/.flow-\(place)-999999999-1-5"
    try bench.folder.write(left, "x")
    unlink(bench.folder.path + "/runs/bench/texts/.flow")
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.folder.text("runs/bench/texts/album/d.txt") == "D TEXT")
    #expect(bench.folder.read(left) == nil)
  }

  @Test func whatAKilledRunWasWritingIsRemovedThoughNothingChanged() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    let ended = Temporaries.name().split(separator: "-").map { String($0) }
    let left = [".flow-\(ended[0])-999999999-1-5", "cache/tmp/\(ended[0])-999999999-1-5"]
    for name in left { try bench.folder.write(name, "x") }
    #expect(try await bench.ran() == "")
    for name in left { #expect(bench.folder.read(name) == nil, "\(name)") }
  }

  /// A run that ends while it lays results out leaves nothing that a later run takes for its own.
  @Test func aHalfLaidResultIsNotTakenForWhole() async throws {
    var bench = try Bench()
    func plan(_ suffix: String) -> Plan {
      bench.suffix = suffix
      var plan = bench.plan
      plan.results = [PlannedResult(name: "texts", references: [.output(stage: "upper", output: "text")])]
      return plan
    }
    func laid() -> String { "abc".map { bench.folder.text("runs/bench/texts/\($0).txt") }.joined() }
    _ = try await bench.engine.run(plan(""), projectRoot: bench.folder.path)
    let golden = laid()
    let counting = FaultyFileSystem(RealFileSystem(), Fault(.count, at: 0))
    _ = try await bench.engine(over: counting).run(plan("!"), projectRoot: bench.folder.path)
    #expect(laid() == "A TEXT!B TEXT!C TEXT!")
    var spoilt = 0
    for call in 1...counting.count {
      _ = try await bench.engine.run(plan(""), projectRoot: bench.folder.path)
      #expect(laid() == golden, "after a fault at call \(call)")
      let faulty = FaultyFileSystem(RealFileSystem(), Fault(.enospc, at: call, isLasting: true))
      do {
        let report = try await bench.engine(over: faulty).run(plan("!"), projectRoot: bench.folder.path)
        spoilt += report.failed ? 1 : 0
      } catch { spoilt += 1 }
    }
    #expect(spoilt > 0)
  }

  @Test func aBadItemIsSetAsideWithItsReason() async throws {
    let bench = try Bench()
    try bench.folder.write("texts/b.txt", "")
    let report = try await bench.run()
    #expect(!report.failed)
    #expect(report.stages[0].quarantined == [QuarantinedItem(id: "b", reason: "it is empty")])
    #expect(bench.result == "a=A;c=C;")
    #expect(bench.lock.contains(#""b": "it is empty""#))
    // The verdict is cached like a result.
    let again = try await bench.run()
    #expect(again.stages.allSatisfy { $0.state == .cached } && again.stages[0].items.quarantined == 1)
    try bench.folder.write("texts/b.txt", "better")
    #expect(try await bench.ran() == "upper:1 first:1 join:1")
  }

  @Test func onErrorFailStopsTheStageAndWhatFollows() async throws {
    var bench = try Bench()
    _ = try await bench.run()
    let lock = bench.lock
    bench.onError = .fail
    try bench.folder.write("texts/b.txt", "")
    let report = try await bench.run()
    #expect(report.stages.map(\.state) == [.failed, .failed, .failed])
    #expect(report.stages[0].failure == "b: it is empty")
    #expect(bench.lock == lock, "the lock file keeps what was")
    // The verdict is cached, and still one.
    #expect(try await bench.run().stages[0].failure == "b: it is empty")
  }

  @Test func whenNoItemIsLeftTheStageFails() async throws {
    let bench = try Bench()
    for name in ["a", "b", "c"] { try bench.folder.write("texts/\(name).txt", "") }
    let report = try await bench.run()
    #expect(report.failed)
    #expect(report.stages[0].failure?.hasPrefix("none of 3 items is left") == true)
  }

  @Test func aFailureIsNotRememberedAsAResult() async throws {
    let bench = try Bench()
    try bench.folder.write("texts/b.txt", "boom")
    let report = try await bench.run()
    #expect(report.stages[0].quarantined.map(\.id) == ["b"])
    let again = try await bench.run()
    #expect(again.stages[0].items.run == 1)
    let key = try #require(try bench.engine.why(bench.plan, stage: "upper", item: "b").key)
    #expect(bench.engine.log(key)?.contains("it went off (do not)") == true)
    let good = try #require(try bench.engine.why(bench.plan, stage: "upper", item: "a").key)
    #expect(bench.engine.log(good) == "was a text")
  }

  /// What was made of what stays known when the bytes are gone; they are made again when somebody needs them, in the
  /// same run, and only they.
  @Test(arguments: [false, true]) func bytesThatAreGoneOrDamagedAreMadeAgainWhenNeeded(_ isDamaged: Bool)
    async throws
  {
    let bench = try Bench()
    _ = try await bench.run()
    let lock = bench.lock
    let digest = Digest(of: "A TEXT")
    if isDamaged {
      chmod(bench.store.path(of: digest), 0o644)
      try Data("rubbish".utf8).write(to: URL(fileURLWithPath: bench.store.path(of: digest)))
    } else {
      unlink(bench.store.path(of: digest))
    }
    #expect(try await bench.ran() == "", "nobody needs them")
    var plan = bench.plan
    plan.stages[1].declaration.version = 2
    let report = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(Bench.summary(report) == "first:3")
    #expect(try bench.store.get(digest) == Array("A TEXT".utf8))
    #expect(bench.lock.replacing("first@2", with: "first@1") == lock)
  }

  @Test func aResultThatIsGoneIsLaidOutAgain() async throws {
    let bench = try Bench()
    _ = try await bench.run()
    let text = bench.result
    for digest in bench.store.objectDigests() { unlink(bench.store.path(of: digest)) }
    try FileManager.default.removeItem(atPath: bench.folder.path + "/runs")
    #expect(try await bench.ran() == "")
    #expect(bench.result == text)
  }

  @Test func consumedBytesAreReleasedAndMadeAgain() async throws {
    let bench = try Bench()
    var plan = bench.plan
    plan.stages[0].retain = .untilConsumed
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(!bench.store.contains(Digest(of: "A TEXT")))
    #expect(Bench.summary(try await bench.engine.run(plan, projectRoot: bench.folder.path)) == "")
    plan.stages[1].declaration.version = 2
    let report = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(!report.failed && Bench.summary(report) == "first:3")
    #expect(bench.result == "a=A;b=B;c=C;")
  }

  @Test func aSourceEditedWhileItIsWorkedOnIsNotRecorded() async throws {
    let bench = try Bench()
    try bench.folder.write("texts/b.txt", "edit")
    let report = try await bench.run()
    #expect(report.stages[0].quarantined.map(\.id) == ["b"])
    #expect(report.stages[0].quarantined[0].reason.contains("edited while"))
    #expect(try await bench.ran() == "upper:1 first:1 join:1")
    #expect(bench.result == "a=A;b=E;c=C;")
  }

  @Test func anInterruptedStageGoesOnWhereItWas() async throws {
    let bench = try Bench()
    let executor = bench.executor
    var prelude = bench.plan
    prelude.stages.removeLast()
    prelude.results = []
    _ = try await bench.engine.run(prelude, projectRoot: bench.folder.path)
    executor.cancel()
    let engine = Engine(store: bench.store, executor: executor, jobs: 1)
    let report = try await engine.run(bench.plan, projectRoot: bench.folder.path)
    #expect(report.interrupted)
    let finished = try await bench.run()
    #expect(Bench.summary(finished) == "join:1")
    #expect(bench.result == "a=A;b=B;c=C;")
    let key = try #require(try bench.engine.why(bench.plan, stage: "join", item: nil).key)
    #expect(bench.engine.log(key) == "resumed")
  }

  @Test func twoFilesOfOneItemAreRefused() async throws {
    let bench = try Bench()
    try bench.folder.write("texts/a.TXT", "again")
    await #expect {
      try await bench.run()
    } throws: { error in
      (error as? Diagnostics)?.all.map(\.code) == ["E032"]
    }
  }

  @Test func aMissingSourceIsSaid() async throws {
    let bench = try Bench()
    try FileManager.default.removeItem(atPath: bench.folder.path + "/texts")
    #expect { try bench.engine.assess(bench.plan) } throws: { error in
      (error as? Diagnostics)?.all.map(\.code) == ["E030"]
    }
  }
}

@Suite struct KeyTests {
  /// Keys are part of every cache that people keep: this one must not change by accident.
  @Test func aKnownActionHasItsKnownKey() {
    let stage = PlannedStage(
      name: "x", declaration: Bench.upper, parameters: ["suffix": "!", "victim": "v"],
      bindings: ["text": [.source("texts")]], resources: Resources())
    let item = Item(id: "", files: [ItemFile(name: "source.txt", digest: Digest(of: "hello"), size: 5)])
    let action = Action(stage, template: Action.template(stage, files: [:]), inputs: ["text": [item]])
    #expect(
      action.preimage
        == #"{"inputs":{"text":[{"files":{"source.txt":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}]},"numeric":"blas","outputs":["text"],"parameters":{"suffix":"!"},"stage":"upper","version":1}"#
    )
    #expect(action.key.hex == "bd156d55ee2becacac442ef916b94dcd73db4dae6e98f12697c96a328eeb4883")
  }

  @Test func everyPartOfAnActionIsInItsKey() {
    var keys = Set<Digest>()
    let item = Item(id: "i", files: [ItemFile(name: "t.txt", digest: Digest(of: "1"), size: 1)])
    func add(_ change: (inout PlannedStage, inout Item) -> Void) {
      var stage = PlannedStage(
        name: "x", declaration: Bench.join, parameters: ["stop": false], bindings: [:], resources: Resources()
      )
      var changed = item
      change(&stage, &changed)
      keys.insert(
        Action(stage, template: Action.template(stage, files: [:]), inputs: ["texts": [changed]]).key)
    }
    add { _, _ in }
    add { stage, _ in stage.declaration.version = 2 }
    add { stage, _ in stage.declaration.name = "other" }
    add { stage, _ in stage.parameters["stop"] = true }
    add { stage, _ in stage.parameters["stop"] = .int(0) }
    add { stage, _ in stage.declaration.outputs.append(OutputDeclaration(name: "more", type: .report)) }
    add { _, item in item.id = "j" }
    add { _, item in item.attributes["license"] = "CC0-1.0" }
    add { _, item in item.files[0].name = "u.txt" }
    add { _, item in item.files[0].digest = Digest(of: "2") }
    add { _, item in item.files.append(ItemFile(name: "v.txt", digest: Digest(of: "1"), size: 1)) }
    #expect(keys.count == 11)
  }
}
