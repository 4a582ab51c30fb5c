import FlowCore
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// T2 of the reliability plan: the power goes after any change to the disk, and what was not synced is kept, dropped or torn.
@Suite struct PowerLossTests {
  @Test func whatWasAcknowledgedIsThereOrIsMadeAgain() async throws {
    let states = Torture.count("FLOW_TORTURE_STATES", 250)
    let live = try TemporaryFolder()
    try TortureBench.prepare(live.path)
    let crash = CrashFileSystem(root: live.path)
    var golden: [String: [String: Data?]] = [:]
    var acknowledged: [(moment: Int, suffix: String)] = []
    for suffix in ["", "!", "", "?"] {
      let bench = try TortureBench(root: live.path, disk: crash, durability: .full, suffix: suffix)
      #expect(try await !bench.run().failed)
      golden[suffix] = bench.outputs
      acknowledged.append((crash.count, suffix))
    }
    let locks = Set(golden.values.compactMap { $0["lock"] ?? nil })
    #expect(golden.count == 3 && locks.count == 3)
    var random = Philox(seed: Torture.seed, label: "power")
    var torn = 0
    for state in 0..<states {
      let moment = 1 + Int(random.next() % UInt64(crash.count))
      let folder = try TemporaryFolder()
      try crash.leave(after: moment, at: folder.path, random: &random)
      try TortureBench.prepare(folder.path)
      let note: Comment = "seed \(Torture.seed), state \(state), after \(moment) of \(crash.count) changes"
      if let lock = FileManager.default.contents(atPath: folder.path + "/bench.lock.yaml") {
        #expect(locks.contains(lock), note)
      }
      let done = acknowledged.filter { $0.moment <= moment }.map(\.suffix)
      let suffix = done.last ?? ["", "!", "?"][Int(random.next() % 3)]
      let bench = try TortureBench(root: folder.path, suffix: suffix)
      let report = try await bench.run()
      #expect(!report.failed, note)
      #expect(bench.outputs == golden[suffix], note)
      if done.contains(suffix) { #expect(report.stages.map(\.items.run) == [0, 0], note) }
      torn += bench.store.verify().damaged.count
    }
    // Else the model would tear nothing, and the test say nothing.
    #expect(torn > states / 50)
    Torture.say(
      "power loss", "\(states) states of \(crash.count) changes, 0 violations, \(torn) torn files found")
  }
}
