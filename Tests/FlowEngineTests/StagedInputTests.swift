import FlowCore
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// A large input that a stage hands on as it came isn't packed and digested again; one that it changed is.
@Suite struct StagedInputTests {
  private let folder: TemporaryFolder
  private let disk = FaultyFileSystem(RealFileSystem(), Fault(.count, at: 0))
  private let store: Store
  private let io: StoreIO
  private let input: ItemFile

  init() throws {
    folder = try TemporaryFolder()
    store = try Store(root: folder.path + "/cache", disk: disk)
    let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
    input = ItemFile(name: "a.bin", digest: try store.put(bytes), size: bytes.count)
    io = StoreIO(
      store: store, key: Digest(of: "key"), scratch: try Scratch.take(in: folder.path + "/scratch"),
      cancelled: { false }, progress: { _, _ in }, log: { _ in })
  }

  @Test func asItCame() throws {
    let path = try io.materialise(input)
    let before = disk.count
    #expect(
      try io.store(contentsOf: path, as: "b.bin")
        == ItemFile(name: "b.bin", digest: input.digest, size: input.size))
    #expect(disk.count - before < 5, "its time is set, nothing is written")
    #expect(try io.materialise(input) == path, "asked for again, it is the same")
    store.remove(input.digest)
    #expect(try io.store(contentsOf: path, as: "b.bin").digest == input.digest)
    #expect(store.contains(input.digest), "gone meanwhile, it is stored")
  }

  @Test(arguments: [true, false])
  func changed(_ inPlace: Bool) throws {
    let path = try io.materialise(input)
    var bytes = try #require(FileBytes.read(path))
    bytes[1_500_000] ^= 1
    chmod(path, 0o644)
    if inPlace {
      let file = open(path, O_WRONLY)
      #expect(pwrite(file, [bytes[1_500_000]], 1, 1_500_000) == 1)
      close(file)
    } else {
      try Data(bytes).write(to: URL(fileURLWithPath: path + ".new"))
      #expect(rename(path + ".new", path) == 0)
    }
    let stored = try io.store(contentsOf: path, as: "b.bin")
    #expect(stored.digest == Digest(of: bytes))
    #expect(try store.get(stored.digest) == bytes)
  }
}
