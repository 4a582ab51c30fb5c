import FlowCore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowStore

@Suite struct CollectionTests {
  private let folder: TemporaryFolder
  private let store: Store

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache", durability: .fast)
  }

  private func bytes(_ count: Int, _ seed: Int) -> [UInt8] {
    var random = Philox(seed: UInt64(seed), label: "bytes")
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  /// A record with one object of 100,000 bytes.
  @discardableResult
  private func make(_ index: Int, seconds: Double = 1, object: Int? = nil) throws -> (
    key: Digest, object: Digest
  ) {
    let digest = try store.put(bytes(100_000, object ?? index))
    let item = Item(id: "", files: [ItemFile(name: "a", digest: digest, size: 100_000)])
    let record = ActionRecord(
      preimage: #"{"stage":"s\#(index)"}"#, outputs: ["o": [item]], seconds: seconds)
    try store.publish(record, key: record.key)
    return (record.key, digest)
  }

  /// So that files are older than the clock tick in which a collection begins.
  private func pause() { usleep(30_000) }

  @Test func whatIsWorthMostStays() throws {
    let made = try [1.0, 100, 10].enumerated().map { try make($0, seconds: $1) }
    pause()
    let first = store.collect(budget: 250_000)
    #expect(first.freed.keys.sorted() == ["s0"] && first.bytes > 90_000 && first.excess == 0)
    #expect(made.map { store.contains($0.object) } == [false, true, true])
    // No manifest knows it, so its record goes too.
    #expect(store.record(made[0].key) == nil)
    store.collect(budget: 150_000, keptKeys: [made[2].key])
    #expect(made.map { store.contains($0.object) } == [false, false, true])
    let last = store.collect(budget: 0, keptKeys: [made[2].key])
    #expect(last.bytes == 0 && last.excess > 90_000)
    #expect(store.objectDigests() == [made[2].object])
  }

  @Test func bytesThatTwoRecordsShareCountOnce() throws {
    let shared = try make(0, seconds: 1, object: 7)
    try make(1, seconds: 50, object: 7)
    let other = try make(2, seconds: 10)
    pause()
    store.collect(budget: 150_000)
    #expect(store.contains(shared.object) && !store.contains(other.object))
  }

  @Test func aDryRunSaysTheSameAndDeletesNothing() throws {
    for index in 0..<4 { try make(index, seconds: Double(index + 1)) }
    pause()
    let said = store.collect(budget: 210_000, isDry: true)
    #expect(said.freed.keys.sorted() == ["s0", "s1"] && said.kept.keys.sorted() == ["s2", "s3"])
    #expect(store.objectDigests().count == 4 && store.recordKeys().count == 4)
    #expect(store.collect(budget: 210_000) == said)
  }

  @Test func whatNothingPointsToHasItsGrace() throws {
    let lone = try store.put([1, 2, 3])
    pause()
    #expect(store.collect(budget: nil).bytes == 0)
    #expect(store.collect(budget: nil, grace: 0).bytes > 0)
    #expect(!store.contains(lone))
  }

  @Test func takingAnObjectUpAgainSparesIt() throws {
    let digest = try store.put([1, 2, 3])
    var old = [timespec(), timespec()]
    old[0].tv_sec = time(nil) - 7200
    old[1] = old[0]
    utimensat(AT_FDCWD, store.path(of: digest), old, 0)
    #expect(store.collect(budget: nil, isDry: true).bytes > 0)
    try store.put([1, 2, 3])
    #expect(store.collect(budget: nil).bytes == 0 && store.contains(digest))
  }

  @Test func pinsAndLockFilesAndRunsKeep() throws {
    let made = try (0..<4).map { try make($0) }
    pause()
    try store.pin([made[0].key], of: "p")
    var manifest = PipelineManifest(store, pipeline: "q")
    let items = [Item(id: "x", files: [ItemFile(name: "a", digest: made[1].object, size: 100_000)])]
    let (units, digest) = PipelineManifest.encode([
      UnitEntry(item: "x", inputs: Digest(of: "i"), key: made[1].key, outputs: ["o": items])
    ])
    let tree = Tree(items)
    try manifest.put(
      "s",
      StageManifest(
        digest: Digest(of: "d"), template: Digest(of: "t"), total: 1, quarantined: [], metrics: [:],
        inputs: [:],
        outputs: ["o": tree], seconds: 1, units: digest), units: units)
    try manifest.save(names: ["s"])
    func kept(_ trees: Set<Digest>) -> [Bool] {
      let freed = store.collect(budget: 0, trees: trees, isDry: true).freed
      return (0..<4).map { freed["s\($0)"] == nil }
    }
    #expect(kept([]) == [true, false, false, false])
    #expect(kept([tree.digest]) == [true, true, false, false])
    var lease = store.lease("q")
    #expect(lease != nil && kept([]) == [true, true, false, false])
    // What comes into being during the run is the run's.
    let late = try make(9)
    pause()
    store.collect(budget: 0, grace: 0)
    #expect(store.contains(late.object) && store.contains(made[1].object) && !store.contains(made[2].object))
    // A record that a manifest knows outlives its bytes.
    lease = nil
    try store.pin([], of: "p")
    store.collect(budget: 0, grace: 0)
    #expect(store.objectDigests().isEmpty)
    #expect(store.record(made[1].key) != nil && store.record(made[0].key) == nil)
    #expect(try FileManager.default.contentsOfDirectory(atPath: store.root + "/leases").isEmpty)
  }

  /// Writers that hold a lease find all that they put or took up, whatever a collection without grace does meanwhile.
  @Test func writersBesideACollectionMissNothing() throws {
    let shared = Shared()
    let store = store
    let contents = (0..<20).map { bytes(2000, $0) }
    let writers = (0..<3).map { writer in
      Thread {
        while !shared.stop.load(ordering: .relaxed) {
          let lease = store.lease("w\(writer)")
          for (index, content) in contents.enumerated() {
            guard let digest = try? store.put(content), (try? store.get(digest)) != nil else {
              shared.missed.withLock { $0.append("\(index)") }
              continue
            }
          }
          withExtendedLifetime(lease) {}
        }
        shared.over.signal()
      }
    }
    for writer in writers { writer.start() }
    let end = Date() + 2
    while Date() < end { store.collect(budget: 0, grace: 0) }
    shared.stop.store(true, ordering: .relaxed)
    for _ in writers { shared.over.wait() }
    #expect(shared.missed.withLock { $0 } == [])
    #expect(store.verify().damaged == [])
  }
}

/// What writers and collector share.
private final class Shared: Sendable {
  let stop = Atomic<Bool>(false)
  let missed = Mutex<[String]>([])
  let over = DispatchSemaphore(value: 0)
}
