import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowPlan
import FlowStageKit
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

/// What trainings make of data, bases and disks that are not as they should be.
@Suite struct BadDataTests {
  private let io: FolderIO
  init() throws { io = try FolderIO(root: try TemporaryFolder().path) }

  private func stage(_ changes: [String: JSON] = [:]) throws -> TrainFlow {
    let declaration = try #require(try StageContract.catalog.get()["train-flow"])
    let small: [String: JSON] = [
      "steps": 7, "batch": 1, "dim": 16, "depth": 1, "heads": 2, "frames": 10, "checkpoint": 2, "validate": 3,
    ]
    let values = StageContract.values(declaration).merging(small) { $1 }.merging(changes) { $1 }
    return try TrainFlow(parameters: JSON.object(values).decode(TrainFlow.Parameters.self))
  }

  private func item(
    _ id: String, _ name: String, _ shape: [Int], bad: (at: Int, value: Float)? = nil
  ) throws -> Item {
    var random = Philox(seed: 1, label: id)
    var values = (0..<shape.reduce(1, *)).map { _ in Float(random.normal()) }
    if let bad { values[bad.at] = bad.value }
    let file = try io.store(
      Safetensors.encode([name: HostTensor(values, shape)]), as: name + ".safetensors")
    return Item(id: id, files: [file])
  }

  private func context(
    _ inputs: [String: [Item]], stage: String = "train-flow", disk: any FileSystem = RealFileSystem(),
    io: FolderIO? = nil
  ) throws -> StageContext {
    StageContext(
      declaration: try #require(try StageContract.catalog.get()[stage]), inputs: inputs, threads: 1,
      disk: disk, io: io ?? self.io)
  }

  private var songs: [Item] {
    get throws { try ["a", "b", "c", "d"].map { try item($0, "latents", [7, 64]) } }
  }

  /// The message of what `body` throws.
  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" + ((error as? StageFailure)?.help.map { " " + $0 } ?? "") }
    return "nothing was thrown"
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func numbersThatAreNoneAreRefusedByItem(_ value: Float) throws {
    var latents = try songs
    latents[2] = try item("c", "latents", [7, 64], bad: (3 * 64 + 5, value))
    let bad = try context(["latents": latents])
    let said = message { try stage().run(bad) }
    #expect(said.contains("'c': latents.safetensors: number 198 of 'latents' (row 4) is"), "\(said)")
    #expect(said.contains("take the item out of the data set") && bad.result.outputs.isEmpty)
    let styles = try ["a", "b"].map {
      try item($0, "style", [16], bad: $0 == "b" ? (15, value) : nil)
    }
    let style = message { try stage().run(context(["latents": songs, "style": styles])) }
    #expect(style.contains("'b': style.safetensors: number 16 of 'style' is"), "\(style)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: io.checkpointDirectory).isEmpty)
  }

  @Test func soundThatIsNoneIsRefusedByItem() throws {
    var wave = (0..<48_000).map { Float(0.3 * sin(Double($0) * 0.05)) }
    let folder = try TemporaryFolder()
    func song(_ id: String) throws -> Item {
      let path = folder.path + "/\(id).wav"
      try AudioFile.write(AudioBuffer(wave, sampleRate: 24_000), to: path)
      return Item(id: id, files: [try io.store(contentsOf: path, as: "audio.wav")])
    }
    let good = try song("good")
    wave[777] = .nan
    let bad = try song("bad")
    let declaration = try #require(try StageContract.catalog.get()["train-vocoder"])
    let vocoder = try #require(AllStages.list.first { $0.name == "train-vocoder" })
    let values = StageContract.values(declaration).merging(["steps": 2]) { $1 }
    let said = message {
      try vocoder.run(
        parameters: .object(values), context: context(["audio": [good, bad]], stage: "train-vocoder"))
    }
    #expect(said.contains("'bad': sample 777 is not a finite number"), "\(said)")
  }

  @Test func aDamagedBaseIsSaid() throws {
    let golden = repositoryRoot + "/Tests/Golden/diffrhythm2/dit_tiny_weights"
    let weights = [UInt8](try Data(contentsOf: URL(fileURLWithPath: golden + ".safetensors")))
    let sidecar = try JSON(parsing: Data(contentsOf: URL(fileURLWithPath: golden + ".json")))
    let config = (sidecar["config"]?["dit"] ?? .null).canonical
    func base(_ bytes: some Sequence<UInt8>, _ config: String) throws -> [Item] {
      [
        Item(
          id: "model",
          files: [
            try io.store(Array(config.utf8), as: "model.json"),
            try io.store(Array(bytes), as: "model.safetensors"),
          ])
      ]
    }
    let latents = try ["a", "b"].map { try item($0, "latents", [7, 16]) }
    func said(_ base: [Item], lora: Bool) -> String {
      message {
        try stage(lora ? ["method": "lora", "rank": 2] : [:]).run(
          context(["latents": latents, "base": base]))
      }
    }
    for lora in [false, true] {
      let cut = said(try base(weights.prefix(weights.count / 2), config), lora: lora)
      #expect(cut.contains("(model.safetensors) can't be used: the tensors end at byte"), "\(cut)")
      #expect(cut.contains("fetch it again"))
      let wide = config.replacing("\"dim\":64", with: "\"dim\":32")
      let other = said(try base(weights, wide), lora: lora)
      #expect(other.contains("has shape [64, 64], but the model's is [32, 64]"), "\(other)")
      let deep = config.replacing("\"depth\":3", with: "\"depth\":4")
      let less = said(try base(weights, deep), lora: lora)
      #expect(less.contains("the weights lack 'transformer.transformer_blocks.3."), "\(less)")
      #expect(said(try base(weights, "{\"dim\":64}"), lora: lora).contains("'depth' is missing"))
      #expect(said(try base(weights, config), lora: lora) == "nothing was thrown")
    }
  }

  /// A training that diverges ends with a reason, and the checkpoint from before is as it was.
  @Test func aTrainingThatDivergesKeepsItsCheckpoint() throws {
    let latents = try songs
    // Near the largest number there is: finite, but no loss of it is.
    var random = Philox(seed: 2, label: "huge")
    let huge = (0..<7 * 64).map { _ in Float(random.normal()) * 1e30 }
    let file = try io.store(
      Safetensors.encode(["latents": HostTensor(huge, [7, 64])]), as: "latents.safetensors")
    let inputs = ["latents": latents + [Item(id: "e", files: [file])]]
    var steps: Set<Int> = []
    for seed in 0..<6 {
      let mixed = try context(inputs, io: copy(inputs))
      let said = message {
        try stage(["checkpoint": 1, "steps": 40, "validate": 1000, "seed": .int(seed)]).run(mixed)
      }
      #expect(said.contains("the loss is not a number at step"), "\(said)")
      #expect(mixed.result.outputs.isEmpty)
      guard let bytes = try mixed.checkpoint("training.safetensors") else {
        #expect(said.contains("at step 0;"), "\(said)")
        continue
      }
      let step = try TrainingLoop.steps(of: Data(bytes))
      #expect(said.contains("at step \(step);"), "\(said): all good steps are kept")
      steps.insert(step)
      let kept = try SafetensorsFile(data: Data(bytes))
      for name in kept.names { #expect(try kept.tensor(name).floats.allSatisfy(\.isFinite), "\(name)") }
    }
    #expect(!steps.isEmpty)
  }

  /// A folder of its own with the files of `inputs`.
  private func copy(_ inputs: [String: [Item]]) throws -> FolderIO {
    let place = try FolderIO(root: try TemporaryFolder().path)
    for file in inputs.values.joined().flatMap(\.files) {
      _ = try place.store(contentsOf: io.materialise(file), as: file.name)
    }
    return place
  }

  /// The disk is full at one call, or from it on: a clear error, the checkpoint before it whole, and the next run ends as one
  /// that nothing disturbed.
  @Test(arguments: [false, true]) func theDiskMayBeFullAtAnyCall(isLasting: Bool) throws {
    let inputs = ["latents": try songs]
    let stage = try stage(["save": 3, "keep": 2])
    func files(_ context: StageContext) -> [String: Digest] {
      var result: [String: Digest] = [:]
      for (port, items) in context.result.outputs {
        for item in items {
          for file in item.files { result["\(port)/\(item.id)/\(file.name)"] = file.digest }
        }
      }
      return result
    }
    let counting = FaultyFileSystem(RealFileSystem(), Fault(.count, at: 0))
    let whole = try context(inputs, disk: counting, io: copy(inputs))
    try stage.run(whole)
    let expected = files(whole)
    let points = counting.count
    #expect(points > 20)
    var felt = 0
    // All of them: FLOW_TORTURE_STEP=1.
    let step = ProcessInfo.processInfo.environment["FLOW_TORTURE_STEP"].flatMap { Int($0) } ?? 7
    let tried = Array(stride(from: 1, through: points, by: max(1, step)))
    for at in tried {
      let place = try copy(inputs)
      let disk = FaultyFileSystem(RealFileSystem(), Fault(.enospc, at: at, isLasting: isLasting))
      let full = try context(inputs, disk: disk, io: place)
      do { try stage.run(full) } catch {
        felt += 1
        let failure = try #require(error as? StageFailure, "\(error)")
        #expect(failure.message.contains("the disk is full: '"), "\(failure.message)")
        #expect(failure.help?.contains("run the same command again") ?? false)
        #expect(full.result.outputs.isEmpty)
      }
      for name in try FileManager.default.contentsOfDirectory(atPath: place.checkpointDirectory)
      where name.hasSuffix(".safetensors") {
        #expect(try full.checkpoint(name) != nil, "\(name) after the call \(at) is damaged")
      }
      let again = try context(inputs, io: place)
      try stage.run(again)
      #expect(files(again) == expected, "after the call \(at)")
      #expect(!place.log.contains { $0.contains("damaged") })
    }
    #expect(felt > tried.count / 3, "\(felt) of \(tried.count)")
    print(
      "\(isLasting ? "from" : "at") each of \(tried.count) of \(points) calls: \(felt) runs failed, all whole after the next run"
    )
  }
}
