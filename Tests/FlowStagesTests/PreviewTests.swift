import FlowAudio
import FlowCore
import FlowModels
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowStages

/// A folder whose run is interrupted at the nth time that a stage asks.
final class InterruptedIO: StageIO {
  let folder: FolderIO
  private let left: Mutex<Int>

  init(_ folder: FolderIO, after count: Int) {
    self.folder = folder
    left = Mutex(count)
  }

  var scratchDirectory: String { folder.scratchDirectory }
  var checkpointDirectory: String { folder.checkpointDirectory }
  var isCancelled: Bool {
    left.withLock {
      $0 -= 1
      return $0 < 0
    }
  }
  func materialise(_ file: ItemFile) throws -> String { try folder.materialise(file) }
  func store(_ bytes: [UInt8], as name: String) throws -> ItemFile { try folder.store(bytes, as: name) }
  func store(contentsOf path: String, as name: String) throws -> ItemFile {
    try folder.store(contentsOf: path, as: name)
  }
  func progress(_ fraction: Double, _ note: String) {}
  func log(_ line: String) { folder.log(line) }
}

@Suite struct PreviewTests {
  private func context(_ io: any StageIO) throws -> StageContext {
    let wave = (0..<72_000).map { Float(0.3 * sin(Double($0) * 0.05)) }
    let folder = try TemporaryFolder()
    try AudioFile.write(AudioBuffer(wave, sampleRate: 24_000), to: folder.path + "/tone.wav")
    let file = try io.store(contentsOf: folder.path + "/tone.wav", as: "tone.wav")
    return StageContext(
      declaration: try #require(try StageContract.catalog.get()["train-vocoder"]),
      inputs: ["audio": [Item(id: "tone", files: [file], attributes: [:])]], threads: 1, io: io)
  }

  private func stage() throws -> TrainVocoder {
    TrainVocoder(
      parameters: .init(
        trained: .all, steps: 7, batch: 1, frames: 1, rate: 0.002, accumulation: 1, mel: 1, magnitude: 0,
        floor: 1e-5, noise: 0.1, adversarial: 0, features: 0, discriminators: "resolutions", width: 0.0625,
        heldOut: 0.1,
        preview: 3, ranks: 1, seed: 1, checkpoint: 2))
  }

  private func digests(_ context: StageContext) -> [String: String] {
    var result: [String: String] = [:]
    for (port, items) in context.result.outputs {
      for file in items.flatMap(\.files) { result["\(port)/\(file.name)"] = file.digest.hex }
    }
    return result
  }

  @Test func anInterruptedTrainingKeepsItsPreviews() throws {
    let (one, two) = (try TemporaryFolder(), try TemporaryFolder())
    let whole = try context(FolderIO(root: one.path))
    try stage().run(whole)
    let expected = digests(whole)
    let files = expected.keys.filter { $0.contains("-step-") && $0.hasSuffix(".wav") }.sorted()
    #expect(files == [0, 3, 6, 7].map { "losses/reconstruction-step-\($0).wav" })
    #expect(Set(files.map { expected[$0] }).count == 4, "the weights change what is heard")
    #expect(expected["losses/reconstruction-reference.png"] != nil)

    let folder = try FolderIO(root: two.path)
    #expect(throws: StageCancelled.self) { try stage().run(context(InterruptedIO(folder, after: 4))) }
    let resumed = try context(folder)
    try stage().run(resumed)
    #expect(folder.log.contains("resumed at step 5"), "\(folder.log)")
    #expect(digests(resumed) == expected)

    // Without a preview from before, the training begins anew rather than to lack it.
    let third = try FolderIO(root: try TemporaryFolder().path)
    #expect(throws: StageCancelled.self) { try stage().run(context(InterruptedIO(third, after: 4))) }
    try FileManager.default.removeItem(atPath: third.checkpointDirectory + "/preview-3.json")
    let again = try context(third)
    try stage().run(again)
    #expect(third.log.contains { $0.contains("a preview before it is missing") })
    #expect(digests(again) == expected)
  }
}
