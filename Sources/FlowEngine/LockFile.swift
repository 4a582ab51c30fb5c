import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// The lock file beside a pipeline: what was made from what, for review. One block per stage, sorted by name; no times,
/// hosts or paths, so equal work gives equal bytes wherever it is done.
enum LockFile {
  static func path(_ plan: Plan) -> String {
    (plan.file.hasSuffix(".yaml") ? String(plan.file.dropLast(5)) : plan.file) + ".lock.yaml"
  }

  /// Replaces the blocks of finished stages, keeps those of others; the path. An unchanged file is not touched. All that it
  /// speaks of is durable before it is.
  static func write(_ plan: Plan, _ reports: [StageReport], store: Store) throws -> String {
    let path = path(plan)
    let old = FileBytes.read(path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    let text = text(plan, reports, old: old)
    // What a killed run was writing here is removed although this one may have nothing to write.
    Store.sweep(beside: (path as NSString).deletingLastPathComponent)
    try store.commit(then: text == old ? nil : Array(text.utf8), at: path)
    return path
  }

  static func text(_ plan: Plan, _ reports: [StageReport], old: String) -> String {
    var byName: [String: StageReport] = [:]
    for report in reports where report.state != .failed && report.state != .denied {
      byName[report.name] = report
    }
    let oldBlocks = byName.count < plan.stages.count ? blocks(old) : [:]
    var text =
      "# What was made from what; written by flow, to be reviewed and kept in git.\n"
      + "lock: 1\nhash: sha256\npipeline: \(plan.name)\nstages:\n"
    for stage in plan.stages.sorted(by: { $0.name < $1.name }) {
      if let report = byName[stage.name] {
        text += block(stage, report)
      } else {
        text += oldBlocks[stage.name] ?? ""
      }
    }
    return text
  }

  private static func block(_ stage: PlannedStage, _ report: StageReport) -> String {
    var text = "  \(stage.name):\n    stage: \(stage.declaration.name)@\(stage.declaration.version)\n"
    func section(_ name: String, _ lines: [String]) {
      guard !lines.isEmpty else { return }
      text += "    \(name):\n" + lines.map { "      \($0)\n" }.joined()
    }
    // A file parameter is named by its base name: where it lies differs from machine to machine.
    section(
      "params",
      stage.keyParameters.sorted { $0.key < $1.key }.map { key, value in
        if case .file = stage.declaration.parameters.first(where: { $0.name == key })?.kind,
          let path = value.text
        {
          return "\(key): \(JSON.string((path as NSString).lastPathComponent).canonical)"
        }
        return "\(key): \(value.canonical)"
      })
    func trees(_ ports: [String: Tree]) -> [String] {
      ports.sorted { $0.key < $1.key }.map {
        "\($0.key): { items: \($0.value.count), digest: \($0.value.digest) }"
      }
    }
    section("inputs", trees(report.inputs))
    section("outputs", trees((report.outputs ?? [:]).mapValues(\.tree)))
    section(
      "metrics",
      report.metrics.sorted { $0.key < $1.key }.map { "\($0.key): \(String(format: "%.6g", $0.value))" })
    section(
      "quarantined",
      report.quarantined.sorted { $0.id < $1.id }.map {
        "\(JSON.string($0.id).canonical): \(JSON.string($0.reason).canonical)"
      })
    return text
  }

  /// The stage blocks of a lock file by name.
  static func blocks(_ text: String) -> [String: String] {
    var result: [String: String] = [:]
    var name: String?
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("  "), !line.hasPrefix("   "), line.hasSuffix(":") {
        name = String(line.dropFirst(2).dropLast())
      }
      if let name, !line.isEmpty { result[name, default: ""] += line + "\n" }
    }
    return result
  }
}
