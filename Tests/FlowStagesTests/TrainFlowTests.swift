import FlowCore
import FlowModels
import FlowNN
import FlowPlan
import FlowStageKit
import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

/// `train-flow` on songs of a few frames.
@Suite struct TrainFlowTests {
  private func stage(_ changes: [String: JSON]) throws -> TrainFlow {
    let declaration = try #require(try StageContract.catalog.get()["train-flow"])
    let small: [String: JSON] = [
      "steps": 11, "batch": 1, "dim": 16, "depth": 1, "heads": 2, "frames": 10, "checkpoint": 4,
      "validate": 5,
    ]
    let values = StageContract.values(declaration).merging(small) { $1 }.merging(changes) { $1 }
    return try TrainFlow(parameters: JSON.object(values).decode(TrainFlow.Parameters.self))
  }

  private func latents(_ id: String, _ io: any StageIO, part: Int? = nil) throws -> Item {
    var random = Philox(seed: 1, label: id)
    let tensor = try HostTensor((0..<7 * 64).map { _ in Float(random.normal()) }, [7, 64])
    let file = try io.store(Safetensors.encode(["latents": tensor]), as: "latents.safetensors")
    return Item(id: id, files: [file], attributes: part.map { [StageDeclaration.part: .int($0)] } ?? [:])
  }

  private func context(
    _ io: any StageIO, _ items: [Item]? = nil, others: [String: [Item]] = [:], memory: Int? = nil
  ) throws -> StageContext {
    let songs = try items ?? ["a", "b", "c", "d"].map { try latents($0, io) }
    return StageContext(
      declaration: try #require(try StageContract.catalog.get()["train-flow"]),
      inputs: others.merging(["latents": songs]) { $1 }, threads: 1, memory: memory, io: io)
  }

  private func files(_ context: StageContext) -> [String: Digest] {
    var result: [String: Digest] = [:]
    for (port, items) in context.result.outputs {
      for item in items {
        for file in item.files { result["\(port)/\(item.id)/\(file.name)"] = file.digest }
      }
    }
    return result
  }

  /// The last few weights on the way are given, the same after an interrupt wherever it came.
  @Test func weightsOnTheWayAreKept() throws {
    let stage = try stage(["save": 3, "keep": 2])
    let whole = try context(FolderIO(root: try TemporaryFolder().path))
    try stage.run(whole)
    let expected = files(whole)
    let names = expected.keys.filter { $0.hasPrefix("checkpoints/") && $0.hasSuffix(".safetensors") }
    #expect(
      names.sorted() == ["06", "09"].map { "checkpoints/step-\($0)/model.safetensors" })
    let weights = [expected["last/model/model.safetensors"]] + names.map { expected[$0] }
    #expect(Set(weights).count == 3)
    for steps in [2, 7, 10] {
      let folder = try FolderIO(root: try TemporaryFolder().path)
      #expect(throws: StageCancelled.self) {
        try stage.run(context(InterruptedIO(folder, after: steps)))
      }
      let resumed = try context(folder)
      try stage.run(resumed)
      #expect(folder.log.contains("resumed at step \(steps + 1)"), "\(folder.log)")
      #expect(files(resumed) == expected)
      let left = try FileManager.default.contentsOfDirectory(atPath: folder.checkpointDirectory)
      #expect(left.filter { $0.hasPrefix("weights-") }.count == 2, "\(left)")
    }
    // Without weights from before, the training begins anew rather than to lack them.
    let folder = try FolderIO(root: try TemporaryFolder().path)
    #expect(throws: StageCancelled.self) { try stage.run(context(InterruptedIO(folder, after: 7))) }
    try FileManager.default.removeItem(atPath: folder.checkpointDirectory + "/weights-6.safetensors")
    let again = try context(folder)
    try stage.run(again)
    #expect(folder.log.contains { $0.contains("weights that were kept before it are missing") })
    #expect(files(again) == expected)
  }

  @Test func wantOfMemoryIsSaidBeforeTheStart() throws {
    let folder = try FolderIO(root: try TemporaryFolder().path)
    let enough = try context(folder)
    try stage([:]).run(enough)
    let need = try #require(enough.result.metrics["memory_bytes"])
    #expect(need > 100_000)
    #expect(folder.log.contains { $0.hasPrefix("memory: ") && $0.contains("optimiser state") })
    for memory in [10_000, 150_000] {
      let little = try context(FolderIO(root: try TemporaryFolder().path), memory: memory)
      #expect {
        try stage([:]).run(little)
      } throws: { error in
        let failure = error as? StageFailure
        return failure?.message.contains("of memory, and 0.\(memory / 100_000) MiB are available") ?? false
          && failure?.help?.contains("lower 'batch'") ?? false
      }
      #expect(little.result.outputs.isEmpty)
    }
  }

  /// Of a device's memory other settings help than of the host's.
  @Test(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
  func wantOfADevicesMemoryNamesTheSettingsThatHelp() async {
    await #expect(processExitsWith: .success) {
      setenv("FLOW_SHIM_FAULT", "oom-at=60000", 1)
      CUDALibraries.use(try #require(CUDAShim.folder))
      let tests = TrainFlowTests()
      func help(_ changes: [String: JSON], memory: Int? = nil) throws -> String? {
        let context = try tests.context(FolderIO(root: try TemporaryFolder().path), memory: memory)
        let stage = try tests.stage(changes.merging(["device": "cuda"]) { $1 })
        return try #require(throws: StageFailure.self) { try stage.run(context) }.help
      }
      let usual = try #require(try help([:]))
      for way in ["lower 'batch'", "'optimizer_state: host'", "'recompute: true'", "'method: lora'"] {
        #expect(usual.contains(way), "\(usual)")
      }
      let tried = try #require(try help(["optimizer_state": "host", "recompute": true]))
      #expect(!tried.contains("optimizer_state") && !tried.contains("recompute"), "\(tried)")
      #expect(try help(["optimizer_state": "host"], memory: 10_000) == "set 'optimizer_state: device'")
    }
  }

  /// The CPU has one memory: where the state is asked to be changes neither bytes nor what is taken.
  @Test func onTheCPUTheStateLiesWhereItDid() throws {
    func run(_ place: String) throws -> (files: [String: Digest], memory: Double?) {
      let context = try context(FolderIO(root: try TemporaryFolder().path))
      try stage(["optimizer_state": .string(place)]).run(context)
      return (files(context), context.result.metrics["memory_bytes"])
    }
    let (own, hosts) = (try run("device"), try run("host"))
    #expect(own.files == hosts.files && own.memory == hosts.memory && own.memory != nil)
  }

  /// What is drawn depends on the weights; a data set without weight changes nothing of what is learnt.
  @Test func dataSetsAreDrawnByTheirWeights() throws {
    func losses(_ weights: [Double], others: [String]) throws -> Digest? {
      let folder = try FolderIO(root: try TemporaryFolder().path)
      let items =
        try ["a", "b"].map { try latents($0, folder, part: 0) }
        + others.map { try latents($0, folder, part: 1) }
      let context = try context(folder, items)
      let list: JSON = .array(weights.map { .double($0) })
      try stage(["weights": list, "validate": 100]).run(context)
      return files(context)["last/model/model.safetensors"]
    }
    let one = try losses([1, 0], others: ["x", "y"])
    #expect(try losses([1, 0], others: ["z", "w"]) == one)
    #expect(try losses([0.5, 0.5], others: ["x", "y"]) != one)
    #expect(try losses([0.5, 0.5], others: ["z", "w"]) != losses([0.5, 0.5], others: ["x", "y"]))
  }

  @Test(
    arguments: [
      (["betas": [0.9]], "'betas' must be"), (["betas": [0.9, 1.0]], "'betas' must be"),
      (["conditions": ["f0", "phone"]], "'phone' is no condition; there are f0, phones, singer"),
      (["method": "conditions"], "'conditions' says which"), (["weights": [0.0, 0.0]], "one of 'weights'"),
      (["dim": 20, "heads": 4], "multiple of twice 'heads'"),
    ] as [([String: JSON], String)])
  func whatNoTrainingCanDoIsRefused(_ changes: [String: JSON], _ says: String) throws {
    #expect {
      try stage(changes)
    } throws: {
      "\($0)".contains(says)
    }
  }

  /// Conditions alone are given as files that say which base they are for; what they need must be bound.
  @Test func conditionsAreGivenBesideTheBase() throws {
    let io = try FolderIO(root: try TemporaryFolder().path)
    let first = try context(io)
    try stage(["steps": 4]).run(first)
    let base = try #require(first.result.outputs["weights"])
    let track = PitchFile(step: 0.01, f0: (0..<140).map { 200 + Double($0) })
    let f0 = try ["a", "c"].map {
      Item(id: $0, files: [try io.store([UInt8](JSONEncoder().encode(track)), as: Files.f0)])
    }
    let phones = [
      Item(
        id: "b",
        files: [
          try io.store(
            Array(
              """
              [{"symbol": "_", "start": 0, "end": 0.1}, {"symbol": "h", "start": 0.1, "end": 0.3}]
              """.utf8), as: "phones.json")
        ])
    ]
    let changes: [String: JSON] = [
      "method": "conditions", "conditions": ["f0", "phones"], "steps": 4, "save": 2,
      "phoneme_alignment_loss": 0.5, "pitch_consistency_loss": 0.3,
    ]
    let tuned = try context(io, others: ["base": base, "f0": f0, "phones": phones])
    try stage(changes).run(tuned)
    #expect(
      tuned.result.outputs.mapValues { $0.flatMap { $0.files.map(\.name) } }.filter { $0.key != "losses" }
        == [
          "conditions": ["conditions.json", "conditions.safetensors"],
          "last": ["conditions.json", "conditions.safetensors"],
          "checkpoints": [
            "conditions.json", "conditions.safetensors", "conditions.json", "conditions.safetensors",
          ],
        ])
    let item = InputItem(try #require(tuned.result.outputs["conditions"]?.first), io: io)
    let adapter = try VoiceFiles.adapter(item)
    #expect(adapter.sizes.kinds == [.f0, .phones] && adapter.weights.count == 4)
    let network = try #require(NetworkFiles([InputItem(base[0], io: io)], .model))
    #expect(adapter.base == network.name)
    let losses = try #require(tuned.result.outputs["losses"]?.first)
    let table = try String(contentsOfFile: InputItem(losses, io: io).path("losses.csv"), encoding: .utf8)
    #expect(table.hasPrefix("step,loss,gradient_norm,rate,validation,alignment,flow,pitch\n"))

    let lacking = try context(io, others: ["base": base, "f0": f0])
    #expect {
      try stage(changes).run(lacking)
    } throws: {
      "\($0)" == "nothing is known of 'phones', which conditions or losses need"
    }
    #expect {
      try stage(changes).run(context(io, others: ["f0": f0, "phones": phones]))
    } throws: {
      "\($0)".contains("there is no base")
    }
  }

  /// All variants of a song are on one side, each data set is split by itself, names and order don't matter.
  @Test func variantsOfASongStayTogether() throws {
    let io = try FolderIO(root: try TemporaryFolder().path)
    var sides: Set<Set<String>> = []
    for seed in 0..<20 {
      var items: [InputItem] = []
      for part in 0..<2 {
        for song in 0..<12 {
          for variant in ["", "~1", "~2"] {
            items.append(InputItem(try latents("set\(part)/\(song)\(variant)", io, part: part), io: io))
          }
        }
      }
      let split = ModelFiles.split(items, seed: UInt64(seed), share: 0.1)
      let held = split.heldOut.map { split.items[$0].item.id }
      let songs = Dictionary(grouping: held) { $0.split(separator: "~")[0] }
      #expect(songs.count == 2 && songs.values.allSatisfy { $0.count == 3 }, "\(held)")
      #expect(Set(songs.keys.map { $0.prefix(4) }).count == 2, "one of each data set")
      sides.insert(Set(held))
      let again = ModelFiles.split(items.reversed(), seed: UInt64(seed), share: 0.1)
      #expect(Set(again.heldOut.map { again.items[$0].item.id }) == Set(held))
    }
    #expect(sides.count > 5, "the seed chooses")
  }

  @Test func whatIsLeftIsSaid() {
    let pace = Pace(total: 1000, step: 100, seconds: 5)
    #expect(pace.note(step: 100, seconds: 5) == "")
    #expect(pace.note(step: 200, seconds: 25) == "5.0 steps/s, 3 min left")
    #expect(pace.note(step: 102, seconds: 45) == "20.0 s a step, 5.0 h left")
    #expect(Pace.text(3) == "3 s" && Pace.text(400_000) == "4.6 days")
  }
}
