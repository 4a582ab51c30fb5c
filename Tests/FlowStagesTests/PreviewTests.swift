import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowPlan
import FlowStageKit
import FlowTensor
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
  private func context(_ io: any StageIO, base: [Item] = []) throws -> StageContext {
    let wave = (0..<72_000).map { Float(0.3 * sin(Double($0) * 0.05)) }
    let folder = try TemporaryFolder()
    try AudioFile.write(AudioBuffer(wave, sampleRate: 24_000), to: folder.path + "/tone.wav")
    let file = try io.store(contentsOf: folder.path + "/tone.wav", as: "tone.wav")
    return StageContext(
      declaration: try #require(try StageContract.catalog.get()["train-vocoder"]),
      inputs: ["audio": [Item(id: "tone", files: [file], attributes: [:])], "base": base], threads: 1, io: io)
  }

  private func stage() throws -> TrainVocoder {
    TrainVocoder(
      parameters: .init(
        trained: .all, steps: 7, batch: 1, frames: 1, rate: 0.002, accumulation: 1, mel: 1, magnitude: 0,
        floor: 1e-5, noise: 0.1, adversarial: 0, features: 0, discriminators: "resolutions", width: 0.0625,
        heldOut: 0.1,
        preview: 3, ranks: 1, seed: 1, checkpoint: 2, device: .cpu, precision: .bfloat16,
        optimizerState: .device))
  }

  private func digests(_ context: StageContext) -> [String: String] {
    var result: [String: String] = [:]
    for (port, items) in context.result.outputs {
      for file in items.flatMap(\.files) { result["\(port)/\(file.name)"] = file.digest.hex }
    }
    return result
  }

  /// What isn't trained comes out as it was, byte for byte; nothing is trained beside nothing.
  @Test(arguments: [VocoderTraining.Trained.decoder, .encoder])
  func oneNetworkOfABaseIsTrained(trained: VocoderTraining.Trained) throws {
    let folder = try TemporaryFolder()
    let io = try FolderIO(root: folder.path)
    let first = try context(io)
    try stage().run(first)
    let base = try #require(first.result.outputs["weights"])
    let plain = try context(io)
    var parameters = try stage().parameters
    parameters.trained = trained
    parameters.preview = 0
    parameters.seed = 2
    #expect(throws: StageFailure.self) { try TrainVocoder(parameters: parameters).run(plain) }
    let tuned = try context(io, base: base)
    try TrainVocoder(parameters: parameters).run(tuned)
    func tensors(_ context: StageContext, _ name: String) throws -> [String: HostTensor] {
      let item = try #require(context.result.outputs["weights"]?.first)
      let file = try #require(item.files.first { $0.name == name })
      let data = try Data(contentsOf: URL(fileURLWithPath: io.materialise(file)))
      let tensors = try SafetensorsFile(data: data)
      return try Dictionary(uniqueKeysWithValues: tensors.names.map { ($0, try tensors.tensor($0)) })
    }
    for name in ["decoder", "encoder"] {
      let (before, after) = (
        try tensors(first, name + ".safetensors"), try tensors(tuned, name + ".safetensors")
      )
      #expect((before == after) == (name != trained.rawValue), "\(name)")
    }
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
