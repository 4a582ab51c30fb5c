import FlowAudio
import FlowCore
import FlowPlan
import FlowScore
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

/// The pipelines that fine-tune a published model, and the same at a size for two cores.
@Suite struct PresetTests {
  private func plan(_ name: String) throws -> Plan {
    try Resolver.load(
      repositoryRoot + "/pipelines/\(name).yaml", catalog: try StageContract.catalog.get())
  }

  @Test(arguments: [
    ("base", 8, 100_000, 1e-5), ("full", 8, 100_000, 1e-5), ("symbolic", 8, 100_000, 1e-5),
    ("lora", 16, 50_000, 3e-4),
  ])
  func theyTrainAsPlanned(_ name: String, _ batch: Int, _ steps: Int, _ rate: Double) throws {
    let plan = try plan(name)
    let train = try #require(plan.stage("train-flow")).parameters
    let expected: [String: JSON] = [
      "batch": .int(batch), "steps": .int(steps), "rate": .double(rate), "accumulation": 4, "warmup": 1000,
      "betas": [0.9, 0.999], "weight_decay": 0.01, "clip": 1.0, "frames": 50,
    ]
    for (key, value) in expected { #expect(train[key] == value, "\(key)") }
    if name == "lora" {
      let adapter: [String: JSON] = [
        "method": "lora", "rank": 16, "alpha": 32.0, "adapter_dropout": 0.1,
        "targets": ["attention", "feed_forward"],
      ]
      for (key, value) in adapter { #expect(train[key] == value, "\(key)") }
    }
    guard name != "symbolic" else {
      #expect(train["weights"] == [0.4, 0.3, 0.3])
      let sets = plan.stages.filter { $0.declaration.name == "symbolic-synthesis" }.map(\.parameters)
      #expect(sets.count == 3 && sets.allSatisfy { $0["transpose"] == 6 && $0["tempo"] == 120.0 })
      return
    }
    let augment = try #require(plan.stage("augment")).parameters
    #expect(augment["semitones"] == 2.0 && augment["stretch"] == 1.1 && augment["mix"] == 0.3)
    #expect(plan.stage("clip")?.parameters["seconds"] == 10.0)
    #expect(plan.stage("normalise")?.parameters["sample_rate"] == 44100)
  }

  /// The small ones differ in sizes and sources alone.
  @Test(arguments: ["full", "lora", "symbolic", "vocoder"]) func theSmallOnesHaveTheSameStages(_ name: String)
    throws
  {
    let (large, small) = (try plan(name), try plan("demo/\(name)"))
    #expect(small.stages.map(\.name) == large.stages.map(\.name))
    #expect(small.stages.map { $0.bindings } == large.stages.map { $0.bindings })
    let training = small.stages.first { $0.name.hasPrefix("train-") }
    #expect(training?.parameters["steps"]?.number ?? 1e9 <= 200)
  }

  private func context(_ stage: String, _ inputs: [String: [Item]], _ io: any StageIO) throws -> StageContext
  {
    StageContext(
      declaration: try #require(try StageContract.catalog.get()[stage]), inputs: inputs, seed: 3, threads: 1,
      io: io)
  }

  private func parameters<T: Decodable>(_ stage: String, _ changes: [String: JSON], _ type: T.Type) throws
    -> T
  {
    let values = StageContract.values(try #require(try StageContract.catalog.get()[stage]))
    return try JSON.object(values.merging(changes) { $1 }).decode(type)
  }

  private func audio(_ seconds: Double, _ pitch: Double, _ io: any StageIO) throws -> Item {
    let wave = (0..<Int(seconds * 8000)).map { Float(0.3 * sin(Double($0) * pitch)) }
    let folder = try TemporaryFolder()
    try AudioFile.write(AudioBuffer(wave, sampleRate: 8000), to: folder.path + "/a.wav")
    return Item(id: "", files: [try io.store(contentsOf: folder.path + "/a.wav", as: "a.wav")])
  }

  @Test func clipsAreOfOneLength() throws {
    let io = try FolderIO(root: try TemporaryFolder().path)
    let context = try context("clip", ["audio": [try audio(7.5, 0.1, io)]], io)
    try Clip(parameters: parameters("clip", ["seconds": 2.0, "least": 1.6], Clip.Parameters.self)).run(
      context)
    let items = context.result.outputs["audio"] ?? []
    #expect(items.map(\.id) == ["", "~clip1", "~clip2"])
    for item in items { #expect(try InputItem(item, io: io).audio().count == 16_000) }
  }

  /// Another song sounds in the share of variants that is asked for, never the song itself; without it nothing changes.
  @Test func variantsAreMixedWithOthers() throws {
    let io = try FolderIO(root: try TemporaryFolder().path)
    let (song, other) = (try audio(1, 0.1, io), try audio(1, 0.37, io))
    func variants(_ mix: Double, _ others: [Item]) throws -> [Digest] {
      let changes: [String: JSON] = ["mix": .double(mix), "variants": 6]
      let context = try context("augment", ["audio": [song], "others": others], io)
      try Augment(parameters: parameters("augment", changes, Augment.Parameters.self)).run(context)
      return (context.result.outputs["audio"] ?? []).map { $0.files[0].digest }
    }
    let alone = try variants(0, [song])
    #expect(alone.count == 7)
    #expect(try variants(1, [song]) == alone)
    let (mixed, plain) = (try variants(1, [song, other]), try variants(0, [song, other]))
    #expect(mixed[0] == plain[0] && zip(mixed, plain).dropFirst().allSatisfy { $0 != $1 })
    let some = zip(try variants(0.5, [song, other]), plain).dropFirst().filter { $0 != $1 }
    #expect((1...5).contains(some.count))
    #expect(throws: StageFailure.self) { try variants(0.5, []) }
  }

  @Test func variantsAreOfTheirSong() {
    let known = ["take": 1, "take~1": 2, "other": 3]
    for (id, value) in [("take", 1), ("take~1~clip2", 2), ("take~2", 1), ("take~2~clip1", 1), ("other~1", 3)]
    {
      #expect(ModelFiles.ofSong(id, known) == value, "\(id)")
    }
    #expect(ModelFiles.ofSong("none~1", known) == nil && ModelFiles.ofSong("", known) == nil)
  }

  @Test func scoresAreRenderedInSeveralKeys() throws {
    guard Symbolic.hasSoundfont else { return print("skipped: no soundfont") }
    let io = try FolderIO(root: try TemporaryFolder().path)
    let text = "X:1\nT:t\nM:4/4\nL:1/4\nQ:1/4=60\nK:C\n\"C\"CEGE|\nw:la li lo lu\n"
    let score = Item(id: "", files: [try io.store(Array(text.utf8), as: "t.abc")])
    let context = try context("symbolic-synthesis", ["score": [score]], io)
    let changes: [String: JSON] = [
      "variants": 4, "transpose": 2, "tempo": 120.0, "melody": "played",
      "prompt_template": "{key} {bpm} {instruments}",
      "soundfont": .string(try #require(Symbolic.soundfont)),
    ]
    try SymbolicSynthesis(
      parameters: parameters("symbolic-synthesis", changes, SymbolicSynthesis.Parameters.self)
    ).run(context)
    let scores = try (context.result.outputs["score"] ?? []).map {
      ($0.id, try InputItem($0, io: io).json("score.json", Score.self))
    }
    #expect(scores.map(\.0) == ["", "~1", "~2", "~3", "~4"])
    #expect(Set(scores.map { $0.1.notes[0].pitch }) == [58, 59, 60, 61, 62], "each transposition once")
    #expect(scores.allSatisfy { $0.1.tempo == 120 })
    let audio = (context.result.outputs["audio"] ?? []).map { $0.files[0].digest }
    #expect(Set(audio).count == 5)
    let prompts = try #require(context.result.outputs["prompts"]).map {
      try String(contentsOfFile: InputItem($0, io: io).path("prompt.txt"), encoding: .utf8)
    }
    #expect(prompts[0] == "C major 120 piano, guitar and bass")
  }
}
