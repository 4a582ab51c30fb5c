import FlowAudio
import FlowCore
import FlowEngine
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

/// What every stage must keep: its YAML and its Swift agree.
@Suite struct StageContract {
  static let names = AllStages.list.map(\.name)
  static let catalog = Result { try StageCatalog(loading: repositoryRoot + "/stages") }

  @Test func everyDeclarationHasItsTypeAndTheReverse() throws {
    let declared = try StageContract.catalog.get().stages.values.filter { $0.run == .native }.map(\.name)
    #expect(declared.sorted() == StageContract.names.sorted())
    #expect(StageContract.names == StageContract.names.sorted(), "AllStages.list is alphabetical")
  }

  @Test(arguments: names)
  func theDefaultsMakeAStage(_ name: String) throws {
    let declaration = try #require(try StageContract.catalog.get()[name])
    let stage = try #require(AllStages.list.first { $0.name == name })
    var values = StageContract.values(declaration)
    #expect(throws: Never.self) { try stage.check(parameters: .object(values)) }
    // Every declared parameter is one that the type reads: without it, decoding fails.
    for parameter in declaration.parameters {
      let value = values.removeValue(forKey: parameter.name)
      #expect(throws: (any Error).self, "'\(parameter.name)' is declared, but not read") {
        try stage.check(parameters: .object(values))
      }
      values[parameter.name] = value
    }
  }

  @Test(arguments: names)
  func itSaysWhatItIs(_ name: String) throws {
    let declaration = try #require(try StageContract.catalog.get()[name])
    #expect(!declaration.doc.isEmpty && !declaration.outputs.isEmpty)
    for parameter in declaration.parameters {
      #expect(!parameter.doc.isEmpty, "'\(parameter.name)' has no doc")
    }
    for output in declaration.outputs { #expect(!output.doc.isEmpty, "'\(output.name)' has no doc") }
    for input in declaration.inputs { #expect(!input.doc.isEmpty, "'\(input.name)' has no doc") }
    #expect(declaration.resources.memory > 0)
  }

  @Test func theReadmesPipelineAndTheShippedOnesAreValid() throws {
    let catalog = try StageContract.catalog.get()
    let readme = try String(contentsOfFile: repositoryRoot + "/README.md", encoding: .utf8)
    let block = try #require(readme.firstMatch(of: #/```yaml\n((.|\n)*?)```/#)).1
    #expect(throws: Never.self) {
      try Resolver.plan(file: "README.yaml", text: String(block), catalog: catalog)
    }
    let folder = repositoryRoot + "/pipelines"
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(".yaml") && !name.hasSuffix(".lock.yaml") {
      #expect(throws: Never.self, "\(name)") { try Resolver.load(folder + "/" + name, catalog: catalog) }
    }
  }

  @Test func theStagesOfTheDocumentsAreValid() throws {
    let readme = try String(contentsOfFile: repositoryRoot + "/stages/README.md", encoding: .utf8)
    let blocks = readme.matches(of: #/```yaml\n((?:.|\n)*?)```/#).map { String($0.1) }
    #expect(blocks.count >= 3)
    let folder = repositoryRoot + "/stages"
    let own = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".yaml") }
      .map { (file: $0, text: try String(contentsOfFile: folder + "/" + $0, encoding: .utf8)) }
    for block in blocks {
      let name = try #require(block.firstMatch(of: #/stage: (\S+)/#)).1
      let texts = own.filter { $0.file != name + ".yaml" } + [("\(name).yaml", block)]
      #expect(throws: Never.self, "\(name)") { try StageCatalog(parsing: texts) }
    }
  }

  /// Values for all parameters: the defaults, and something of the type where there is none.
  static func values(_ declaration: StageDeclaration) -> [String: JSON] {
    Dictionary(
      uniqueKeysWithValues: declaration.parameters.map { parameter in
        if let standard = parameter.standard, standard != .null { return (parameter.name, standard) }
        switch parameter.kind {
        case .bool: return (parameter.name, .bool(true))
        case .int(let low, _): return (parameter.name, .int(low ?? 1))
        case .float(let low, _): return (parameter.name, .double(low ?? 1))
        case .string, .file: return (parameter.name, "x")
        case .choice(let choices): return (parameter.name, .string(choices.first ?? ""))
        case .ints, .floats, .strings: return (parameter.name, .array([]))
        }
      })
  }
}

/// The whole of the main pipeline on three songs, in this process, with trainings of a few steps.
@Suite struct PipelineTests {
  static func project() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for name in ["mary", "row", "sleeping"] {
      let song = try Data(
        contentsOf: URL(fileURLWithPath: repositoryRoot + "/pipelines/demo/songs/\(name).abc"))
      try folder.write("songs/\(name).abc", song)
    }
    // A recording: three seconds of a tone that rises by a fifth.
    let tone = (0..<132_300).map { i in
      let t = Double(i) / 44_100
      return Float(0.3 * sin(2 * .pi * (220 * t + 220 / 12 * t * t)) * min(1, t * 10))
    }
    try AudioFile.write(
      AudioBuffer(channels: [tone], sampleRate: 44_100), to: folder.path + "/songs/tone.wav")
    try folder.write("songs/tone.txt", "la la la\n")
    return folder
  }

  static func run(_ folder: TemporaryFolder, jobs: Int) async throws -> (RunReport, Plan, Store) {
    var plan = try Resolver.load(
      repositoryRoot + "/pipelines/vocal.yaml", catalog: try StageContract.catalog.get(),
      overrides: [
        "sources.songs.path=\(folder.path)/songs", "stages.train-vocoder.with.steps=4",
        "stages.train-flow.with.steps=4", "stages.sample.with.seconds=2", "stages.sample.with.steps=3",
      ])
    plan.file = folder.path + "/vocal.yaml"
    let store = try Store(root: folder.path + "/cache")
    let engine = Engine(
      store: store, executor: LocalExecutor(store: store, stages: AllStages.list), jobs: jobs)
    return (try await engine.run(plan, projectRoot: folder.path), plan, store)
  }

  @Test func everyStageRunsAndThreadsChangeNothing() async throws {
    guard Symbolic.hasSoundfont else {
      print("skipped: no soundfont")
      return
    }
    let (one, other) = (try PipelineTests.project(), try PipelineTests.project())
    let (report, plan, store) = try await PipelineTests.run(one, jobs: 1)
    for stage in report.stages {
      #expect(stage.failure == nil, "\(stage.name): \(stage.failure ?? "")")
      #expect(stage.state == (stage.items.total == 0 ? .cached : .done), "\(stage.name)")
      #expect(stage.quarantined.isEmpty)
    }
    let metrics = Dictionary(uniqueKeysWithValues: report.stages.map { ($0.name, $0.metrics) })
    // The voice stands in front in the mixture: what counts is that it comes out nearly whole.
    #expect(try #require(metrics["separate"]?["voice_sdr_db"]) > 5)
    #expect(abs(try #require(metrics["normalise"]?["loudness_lufs"]) + 20) < 0.1)
    #expect(try #require(metrics["sample"]?["clipped_share"]) < 0.01)
    for name in ["model.safetensors", "model.json", "decoder.safetensors", "decoder.json"] {
      #expect(one.read("runs/vocal/weights/\(name)") != nil, "\(name)")
    }
    try GoldenOutputs(report, plan, store).check()
    _ = try await PipelineTests.run(other, jobs: 2)
    #expect(one.text("vocal.lock.yaml") == other.text("vocal.lock.yaml"))
    #expect(one.read("runs/vocal/samples/mary.wav") == other.read("runs/vocal/samples/mary.wav"))
  }
}

enum Symbolic {
  static let soundfont = ["/usr/share/sounds/sf3/FluidR3Mono_GM.sf3", "/usr/share/sounds/sf3/default-GM.sf3"]
    .first {
      FileManager.default.isReadableFile(atPath: $0)
    }
  static var hasSoundfont: Bool { soundfont != nil }
}
