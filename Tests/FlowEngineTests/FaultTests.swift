import FlowCore
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine
@testable import FlowStore

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
