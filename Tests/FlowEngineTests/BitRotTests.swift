import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine
@testable import FlowStore

/// T3: whatever happens to a file of the cache is noticed at the next use or by verify, set aside, and healed.
@Suite struct BitRotTests {
  @Test func damageIsFoundAndHealed() async throws {
    let cases = Torture.count("FLOW_TORTURE_FLIPS", 150)
    let folder = try TemporaryFolder()
    try TortureBench.prepare(folder.path)
    let bench = try TortureBench(root: folder.path)
    #expect(try await !bench.run().failed)
    let golden = bench.outputs
    var random = Philox(seed: Torture.seed, label: "rot")
    func below(_ n: Int) -> Int { Int(random.next() % UInt64(max(1, n))) }
    var (flips, harmless) = (0, 0)
    for number in 0..<cases {
      let files = bench.cacheFiles
      let name = files[below(files.count)]
      let path = "\(bench.store.root)/\(name)"
      let whole = try #require(FileManager.default.contents(atPath: path))
      // Nine of ten are flipped bits.
      let kind = below(10) < 9 ? 0 : 1 + below(7)
      var bad = whole
      chmod(path, 0o644)
      switch kind {
      case 0:
        bad[below(bad.count)] ^= UInt8(1 << below(8))
        flips += 1
      case 1: bad = bad.prefix(below(bad.count))
      case 2: bad = Data(count: bad.count)
      case 3: bad.append(contentsOf: [UInt8(below(256)), 0])
      default: break
      }
      let url = URL(fileURLWithPath: path)
      switch kind {
      case 0...3: try bad.write(to: url)
      case 4:
        let other = "\(bench.store.root)/\(files[below(files.count)])"
        bad = try #require(FileManager.default.contents(atPath: other))
        chmod(other, 0o644)
        try whole.write(to: URL(fileURLWithPath: other))
        try bad.write(to: url)
      case 5:
        unlink(path)
        try FileManager.default.createDirectory(atPath: path + "/inside", withIntermediateDirectories: true)
      case 6:
        unlink(path)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/etc/hostname")
      default: unlink(path)
      }
      let note: Comment = "seed \(Torture.seed), case \(number): \(name), kind \(kind)"
      // Results gone too: they are laid out from the cache.
      if below(2) == 0 { try FileManager.default.removeItem(atPath: folder.path + "/runs") }
      if below(2) == 0 { _ = bench.store.verify() }
      #expect(try await !bench.run().failed, note)
      #expect(bench.outputs == golden, note)
      _ = bench.store.verify()
      // All objects that verify set aside are needed now, so that the next case doesn't heal what this one broke.
      try FileManager.default.removeItem(atPath: folder.path + "/runs")
      #expect(try await !bench.run().failed, note)
      #expect(bench.store.verify().damaged == [], note)
      #expect(bench.outputs == golden, note)

      let quarantine = bench.store.root + "/quarantine"
      let aside = bench.store.names(in: "quarantine")
      if kind <= 3, name.hasPrefix("objects/") || name.hasPrefix("actions/") {
        let isKept = aside.contains { FileManager.default.contents(atPath: "\(quarantine)/\($0)") == bad }
        // A bit that nothing depends on leaves an object that is still right.
        let isRight = FileManager.default.contents(atPath: path) == bad
        #expect(isKept || isRight, note)
        if isRight { harmless += 1 }
      }
      for one in aside { try FileManager.default.removeItem(atPath: "\(quarantine)/\(one)") }
    }
    #expect(harmless * 20 <= cases)
    Torture.say(
      "bit rot", "\(cases) cases, \(flips) of them flipped bits, all found and healed (\(harmless) harmless)")
  }
}
