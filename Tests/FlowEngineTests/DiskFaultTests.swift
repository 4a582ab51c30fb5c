import FlowCore
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// T4 and T5: any one call to the disk fails, or that and all later ones.
@Suite struct DiskFaultTests {
  private func fresh() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try TortureBench.prepare(folder.path)
    return folder
  }

  /// What a run over that disk says when it fails.
  private func failure(_ root: String, _ disk: any FileSystem) async throws -> String? {
    do {
      let report = try await TortureBench(root: root, disk: disk, durability: .full).run()
      guard report.failed else { return nil }
      return report.stages.compactMap(\.failure).joined(separator: "; ")
    } catch let error as StoreError { return "\(error)" }
  }

  @Test(arguments: [Fault.Kind.enospc, .eio, .emfile, .eintr, .short])
  func everyCallMayFail(_ kind: Fault.Kind) async throws {
    let step = Torture.count("FLOW_TORTURE_STEP", 23)
    let first = try fresh()
    let counting = FaultyFileSystem(SyncFails(fails: false), Fault(.count, at: 0))
    #expect(try await failure(first.path, counting) == nil)
    let golden = try TortureBench(root: first.path).outputs
    let points = counting.count
    #expect(points > 100)
    var (runs, failed) = (0, 0)
    for isLasting in [false, true] {
      for at in stride(from: 1, through: points, by: step) {
        let folder = try fresh()
        let disk = FaultyFileSystem(SyncFails(fails: false), Fault(kind, at: at, isLasting: isLasting))
        let note: Comment = "\(kind)@\(at)\(isLasting ? "+" : "") of \(points)"
        let message = try await failure(folder.path, disk)
        runs += 1
        if let message {
          failed += 1
          #expect(kind != .eintr && kind != .short, "\(note): \(message)")
          #expect(message.contains(folder.path), "\(note): \(message)")
          if kind == .enospc { #expect(message.contains("bytes free"), "\(note): \(message)") }
        } else {
          #expect(try TortureBench(root: folder.path).outputs == golden, note)
        }
        let bench = try TortureBench(root: folder.path)
        #expect(try await !bench.run().failed, note)
        #expect(bench.outputs == golden, note)
        #expect(bench.store.verify().damaged == [], note)
      }
    }
    if kind == .enospc || kind == .eio { #expect(failed > runs / 3) }
    Torture.say(
      "\(kind)", "\(runs) runs, one call of \(points) each, \(failed) failed, all whole after the next run")
  }

  /// A sync that fails is not asked for again and trusted: what it was about is made anew.
  @Test func aFailedSyncIsFatalForWhatItWasAbout() async throws {
    let folder = try fresh()
    let disk = SyncFails()
    let message = try #require(try await failure(folder.path, disk))
    #expect(message.contains("syncfs"))
    let bench = try TortureBench(root: folder.path)
    #expect(
      bench.store.recordKeys().isEmpty
        && FileManager.default.fileExists(atPath: bench.root + "/bench.lock.yaml") == false)
    let report = try await bench.run()
    #expect(report.stages.map(\.items.run) == [3, 1])
  }

  @Test func nothingIsSyncedWhenNothingWasWritten() async throws {
    let folder = try fresh()
    let disk = SyncFails(fails: false)
    #expect(try await failure(folder.path, disk) == nil)
    let once = disk.count
    #expect(once > 0)
    #expect(try await failure(folder.path, disk) == nil)
    #expect(disk.count == once)
  }
}
