import FlowAudio
import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// What each stage gave for the test's songs, in a few numbers per file, beside the version that gave it. A stage whose outputs
/// change must raise its version, or caches would hold what it no longer gives. Digests would not do: the last digits of
/// floats differ between types of CPU.
struct GoldenOutputs: Codable, Equatable {
  struct Stage: Codable, Equatable {
    var version: Int
    /// By `output/item/file`: how many numbers it holds, and their root mean square.
    var files: [String: Print]
  }
  struct Print: Codable, Equatable {
    var count: Int
    var level: Double

    func agrees(with other: Print, _ tolerance: Double) -> Bool {
      count == other.count && abs(level - other.level) <= tolerance * max(abs(level), abs(other.level), 1e-6)
    }
  }
  var stages: [String: Stage]

  static let path = repositoryRoot + "/Tests/Golden/stages/outputs.json"

  /// Of what a run came to.
  init(_ report: RunReport, _ plan: Plan, _ store: Store) throws {
    stages = [:]
    // Stages of a stage that is a pipeline come first, and give way: those of what is sampled vary as samples do.
    let (inner, own) = (report.stages.filter(\.isInner), report.stages.filter { !$0.isInner })
    for stage in inner + own {
      guard let declaration = plan.stage(stage.name)?.declaration else { continue }
      var files: [String: Print] = [:]
      for (port, artifact) in stage.outputs ?? [:] {
        for item in artifact.items {
          for file in item.files {
            files["\(port)/\(item.id)/\(file.name)"] = try GoldenOutputs.print(
              try store.get(file.digest), file.name)
          }
        }
      }
      if !files.isEmpty { stages[declaration.name] = Stage(version: declaration.version, files: files) }
    }
  }

  private static func print(_ bytes: [UInt8], _ name: String) throws -> Print {
    var numbers: [Double]
    switch (name as NSString).pathExtension {
    case "wav":
      let folder = try TemporaryFolder()
      try folder.write(name, Data(bytes))
      numbers = try AudioFile.read(folder.path + "/" + name).channels.flatMap { $0.map(Double.init) }
    case "safetensors":
      let start = 8 + bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
      numbers = stride(from: start, to: bytes.count - 3, by: 4).map { i in
        Double(bytes[i..<i + 4].withUnsafeBytes { $0.loadUnaligned(as: Float.self) })
      }
    case "png", "md": numbers = []
    case _ where name.contains("tfevents"): numbers = []
    default:
      let text = String(decoding: bytes, as: UTF8.self)
      numbers = text.matches(of: #/-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/#).compactMap { Double($0.0) }
    }
    let level = (numbers.reduce(0) { $0 + $1 * $1 } / Double(max(1, numbers.count))).squareRoot()
    return Print(count: numbers.count, level: level.isFinite ? level : -1)
  }

  /// What differs from `golden`, a line each.
  func differences(from golden: GoldenOutputs) -> [String] {
    Set(stages.keys).union(golden.stages.keys).sorted().compactMap { name in
      guard let now = stages[name] else { return "\(name): gave nothing" }
      guard let before = golden.stages[name] else { return "\(name): not recorded yet" }
      let changed = Set(now.files.keys).union(before.files.keys).sorted().filter { file in
        guard let a = now.files[file], let b = before.files[file] else { return true }
        // Sampling multiplies the last digits of a training: 13 % of level between two orders of summing were seen.
        // So does a training: 1 % of a loss.
        let sampled =
          ["samples/", "metrics/"].contains { file.hasPrefix($0) } || file.contains("-step-")
          || file.contains("/sample-")
        return !a.agrees(with: b, sampled ? 0.3 : file.hasPrefix("losses/") ? 0.05 : 5e-3)
      }
      if now.version != before.version {
        return "\(name): version \(before.version) -> \(now.version), not recorded yet"
      }
      guard let first = changed.first else { return nil }
      let what = "\(String(describing: before.files[first])) -> \(String(describing: now.files[first]))"
      return
        "\(name): \(changed.count) of \(now.files.count) files changed, such as \(first) (\(what)), but its version is \(now.version) as before: raise it in stages/\(name).yaml"
    }
  }

  /// Compares with what is recorded; with `FLOW_UPDATE_GOLDEN` records instead.
  func check() throws {
    if ProcessInfo.processInfo.environment["FLOW_UPDATE_GOLDEN"] != nil {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
      try FileManager.default.createDirectory(
        atPath: (GoldenOutputs.path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try encoder.encode(self).write(to: URL(fileURLWithPath: GoldenOutputs.path))
    }
    let golden = try JSONDecoder().decode(
      GoldenOutputs.self, from: Data(contentsOf: URL(fileURLWithPath: GoldenOutputs.path)))
    let differences = differences(from: golden)
    #expect(
      differences.isEmpty,
      "\(differences.joined(separator: "\n"))\nthen record: FLOW_UPDATE_GOLDEN=1 swift test --filter PipelineTests"
    )
  }
}

extension StageReport {
  /// Whether it is one of a stage that is a pipeline.
  fileprivate var isInner: Bool { name.contains("/") }
}

@Suite struct GoldenOutputsTests {
  /// The guard itself: what it must and must not notice.
  @Test func aChangeWithoutAVersionIsSaid() throws {
    let golden = try JSONDecoder().decode(
      GoldenOutputs.self, from: Data(contentsOf: URL(fileURLWithPath: GoldenOutputs.path)))
    #expect(golden.differences(from: golden).isEmpty)
    #expect(golden.stages.count >= 15, "\(golden.stages.keys.sorted())")
    var other = golden
    let file = try #require(other.stages["normalise"]?.files.keys.sorted().first)
    other.stages["normalise"]?.files[file]?.level *= 1.0001
    #expect(other.differences(from: golden).isEmpty, "another CPU's digits")
    other.stages["normalise"]?.files[file]?.level *= 1.01
    #expect(other.differences(from: golden).first?.contains("raise it") ?? false)
    other = golden
    other.stages["f0"]?.files[file] = GoldenOutputs.Print(count: 1, level: 1)
    #expect(other.differences(from: golden).first?.contains("raise it") ?? false)
    other = golden
    other.stages["f0"]?.version += 1
    #expect(other.differences(from: golden).first?.contains("not recorded") ?? false)
  }
}
