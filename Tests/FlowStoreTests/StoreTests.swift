import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStore

@Suite struct StoreTests {
  private let folder: TemporaryFolder
  private let store: Store

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache")
  }

  private func bytes(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = Philox(seed: seed, label: "bytes")
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  @Test(arguments: [0, 1, 2, 1000, 70_000, 1_000_003])
  func whatIsPutComesBack(_ count: Int) throws {
    let content = bytes(count, 1)
    let digest = try store.put(content)
    #expect(digest == Digest(of: content))
    #expect(try store.get(digest) == content)
    #expect(try store.put(content) == digest)
    #expect(store.objectDigests() == [digest])
  }

  @Test(arguments: [0, 1, 1000, 1_048_576, 3_000_001])
  func filesGoInAndOutPieceByPiece(_ count: Int) throws {
    let content = bytes(count / 2, 3) + [UInt8](repeating: 5, count: count - count / 2)
    try folder.write("in", Data(content))
    let (digest, size) = try store.put(contentsOf: folder.path + "/in")
    #expect(digest == Digest(of: content) && size == count)
    #expect(try store.get(digest) == content)
    try store.materialise(digest, at: folder.path + "/deep/out")
    #expect(folder.read("deep/out") == Data(content))
    let tmp = try FileManager.default.contentsOfDirectory(atPath: store.root + "/tmp")
    #expect(tmp.isEmpty && store.objectDigests() == [digest])
    // A flipped bit is noticed on this way too, and nothing is left at the target.
    var file = try #require(FileManager.default.contents(atPath: store.path(of: digest)))
    file[file.count / 2] ^= 4
    chmod(store.path(of: digest), 0o644)
    try file.write(to: URL(fileURLWithPath: store.path(of: digest)))
    #expect(throws: StoreError.missing(digest)) { try store.materialise(digest, at: folder.path + "/other") }
    #expect(folder.read("other") == nil && !store.contains(digest))
  }

  /// Any damage to an object's file is noticed, the file is set aside, and putting it again heals.
  @Test(arguments: 0..<24)
  func damageIsNeverServed(_ seed: Int) throws {
    let content = bytes(5000, 2) + [UInt8](repeating: 7, count: 5000)
    let digest = try store.put(content)
    let path = store.path(of: digest)
    var random = Philox(seed: UInt64(seed), label: "damage")
    var file = try #require(FileManager.default.contents(atPath: path))
    switch seed % 4 {
    case 0: file = file.prefix(Int(random.next() % UInt64(file.count)))
    case 1: file[Int(random.next() % UInt64(file.count))] ^= UInt8(1 << (random.next() % 8))
    case 2: file = Data()
    default:
      // A whole frame, but of other bytes.
      let other = try store.put(bytes(100, UInt64(seed)))
      file = try #require(FileManager.default.contents(atPath: store.path(of: other)))
    }
    chmod(path, 0o644)
    try file.write(to: URL(fileURLWithPath: path))
    #expect(throws: StoreError.missing(digest)) { try store.get(digest) }
    #expect(!store.contains(digest))
    try store.put(content)
    #expect(try store.get(digest) == content)
  }

  @Test func aRecordOutlivesItsOutputs() throws {
    let digest = try store.put([1, 2, 3])
    let item = Item(id: "", files: [ItemFile(name: "a.bin", digest: digest, size: 3)])
    let record = ActionRecord(preimage: "{}", outputs: ["out": [item]], metrics: ["m": 0.1], seconds: 2)
    let key = record.key
    #expect(store.record(key) == nil)
    try store.publish(record, key: key)
    #expect(store.record(key) == record)
    unlink(store.path(of: digest))
    #expect(store.record(key) == record)
  }

  @Test func aDamagedRecordIsNone() throws {
    let record = ActionRecord(preimage: "{}", rejected: "silent")
    let key = record.key
    try store.publish(record, key: key)
    let path = "\(store.root)/actions/\(key.hex.prefix(2))/\(key.hex)"
    let whole = try #require(FileManager.default.contents(atPath: path))
    for cut in [0, 10, 64, 65, whole.count - 1] {
      try whole.prefix(cut).write(to: URL(fileURLWithPath: path))
      #expect(store.record(key) == nil, "cut to \(cut)")
    }
    var flipped = whole
    flipped[whole.count - 5] ^= 1
    try flipped.write(to: URL(fileURLWithPath: path))
    #expect(store.record(key) == nil)
  }

  /// Written by Foundation's coder, as records were at first: a whole float without its point, slashes escaped.
  @Test func aRecordOfAnEarlierVersionIsRead() throws {
    let preimage = "{\"stage\":\"a/b\"}"
    let body =
      #"{"log":"\#(Digest(of: "log").hex)","metrics":{"loss":2},"outputs":{"f0":[{"attributes":{"n":1},"#
      + #""files":[{"digest":"\#(Digest(of: "x").hex)","name":"x.json","size":7}],"id":"s\/1"}]},"#
      + #""peakMemory":5,"preimage":"{\"stage\":\"a\/b\"}","rejected":"why","seconds":1.5}"#
    let key = ActionRecord.key(of: preimage)
    try store.publish(Array((Digest(of: body).hex + "\n" + body).utf8), at: store.recordPath(key))
    let item = Item(
      id: "s/1", files: [ItemFile(name: "x.json", digest: Digest(of: "x"), size: 7)], attributes: ["n": 1])
    #expect(
      store.record(key)
        == ActionRecord(
          preimage: preimage, outputs: ["f0": [item]], metrics: ["loss": 2], rejected: "why",
          log: Digest(of: "log"), seconds: 1.5, peakMemory: 5))
  }

  @Test func aLockThatIsTakenIsNotWaitedFor() {
    let (key, other) = (Digest(of: "a"), Digest(of: "b"))
    do {
      let held = store.lock(key)
      #expect(store.lockIfFree(key) == nil)
      #expect(store.lockIfFree(other) != nil)
      withExtendedLifetime(held) {}
    }
    #expect(store.lockIfFree(key) != nil)
  }

  @Test(arguments: [1000, 2_000_000])
  func whatIsUnpackedIsCheckedToo(_ count: Int) throws {
    let content = bytes(count, 9)
    let digest = try store.put(content)
    let path = folder.path + "/new/folder/file"
    try store.unpack(digest, size: count, at: path, mode: 0o444)
    #expect(FileBytes.read(path) == content)
    let object = store.path(of: digest)
    var damaged = try #require(FileBytes.read(object))
    damaged[damaged.count / 2] ^= 1
    chmod(object, 0o644)
    try Data(damaged).write(to: URL(fileURLWithPath: object))
    #expect(throws: StoreError.missing(digest)) {
      try store.unpack(digest, size: count, at: path + "2", mode: 0o444)
    }
    #expect(!FileManager.default.fileExists(atPath: path + "2"))
    #expect(!store.contains(digest), "set aside, to be made again")
  }

  @Test func aRecordWithoutFiniteMetricsIsRefused() {
    let record = ActionRecord(preimage: "{}", metrics: ["loss": .nan])
    #expect(throws: StoreError.self) { try store.publish(record, key: Digest(of: "k")) }
  }

  @Test func verifyNamesWhatIsDamaged() throws {
    let (good, bad) = (try store.put([1]), try store.put([2]))
    chmod(store.path(of: bad), 0o644)
    try Data([9]).write(to: URL(fileURLWithPath: store.path(of: bad)))
    let found = store.verify()
    #expect(found.checked == 2)
    #expect(found.damaged == ["object \(bad.short)"])
    #expect(store.objectDigests() == [good])
  }

  @Test func nothingHalfWrittenIsLeftWhereWritingFails() throws {
    try folder.write("file", "not a folder")
    #expect(throws: StoreError.self) { try store.publish([1], at: folder.path + "/file/x") }
    try FileManager.default.createDirectory(
      atPath: folder.path + "/there", withIntermediateDirectories: true)
    #expect(throws: StoreError.self) { try store.publish([1], at: folder.path + "/there") }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names.sorted() == ["cache", "file", "there"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: store.root + "/tmp").isEmpty)
  }

  @Test func aLockIsHeldByOneAtATime() async throws {
    let inside = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask { [store] in
          let lock = store.lock(Digest(of: "name"))
          inside.enter()
          usleep(2000)
          inside.leave()
          withExtendedLifetime(lock) {}
        }
      }
    }
    #expect(inside.most == 1)
  }
}

/// How many are inside at once.
private final class Counter: @unchecked Sendable {  // every access is under the lock
  private let lock = NSLock()
  private var count = 0
  private(set) var most = 0
  func enter() {
    lock.withLock {
      count += 1
      most = max(most, count)
    }
  }
  func leave() { lock.withLock { count -= 1 } }
}

@Suite struct StatCacheTests {
  @Test func anEditOfTheSameSizeWithItsTimeRestoredIsSeen() throws {
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path + "/cache")
    try folder.write("song.abc", "C D E")
    let path = folder.path + "/song.abc"
    usleep(60_000)
    let first = StatCache(store)
    #expect(first.digest(path)?.digest == Digest(of: "C D E"))
    first.save()
    let times = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    usleep(60_000)
    try folder.write("song.abc", "C D F")
    try FileManager.default.setAttributes([.modificationDate: try #require(times)], ofItemAtPath: path)
    #expect(StatCache(store).digest(path)?.digest == Digest(of: "C D F"))
  }

  @Test func anEditRightAfterHashingIsSeen() throws {
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path + "/cache")
    for round in 0..<50 {
      try folder.write("x", "round \(round % 10)")
      let cache = StatCache(store)
      #expect(cache.digest(folder.path + "/x")?.digest == Digest(of: "round \(round % 10)"))
      cache.save()
    }
  }

  @Test func whatIsNoFileHasNoDigest() throws {
    let folder = try TemporaryFolder()
    let cache = StatCache(try Store(root: folder.path + "/cache"))
    #expect(cache.digest(folder.path + "/nothing") == nil)
    #expect(cache.digest(folder.path) == nil)
  }
}
