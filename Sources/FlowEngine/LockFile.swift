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
    let old = FileBytes.read(path) ?? []
    let text = bytes(plan, reports, old: old)
    // What a killed run was writing here is removed although this one may have nothing to write.
    Store.sweep(beside: Path.parent(path))
    try store.commit(then: text == old ? nil : text, at: path)
    return path
  }

  // Into bytes: appending to a text costs four times as much, and it is made anew by every run.
  static func bytes(_ plan: Plan, _ reports: [StageReport], old: [UInt8]) -> [UInt8] {
    var byName: [String: Int] = [:]
    byName.reserveCapacity(reports.count)
    for i in reports.indices where reports[i].state != .failed && reports[i].state != .denied {
      byName[reports[i].name] = i
    }
    let oldBlocks = byName.count < plan.stages.count ? blocks(String(decoding: old, as: UTF8.self)) : [:]
    var text: [UInt8] = []
    text.reserveCapacity(old.count + 1024)
    text += "# What was made from what; written by flow, to be reviewed and kept in git.\n".utf8
    text += "lock: 1\nhash: sha256\npipeline: \(plan.name)\nstages:\n".utf8
    let order = plan.stages.indices.sorted { plan.stages[$0].name < plan.stages[$1].name }
    for i in order {
      if let report = byName[plan.stages[i].name] {
        block(plan.stages[i], reports[report], &text)
      } else {
        text += (oldBlocks[plan.stages[i].name] ?? "").utf8
      }
    }
    return text
  }

  private static func block(_ stage: PlannedStage, _ report: StageReport, _ text: inout [UInt8]) {
    func line(_ key: String, _ value: String) {
      text += "      ".utf8
      text += key.utf8
      text += ": ".utf8
      text += value.utf8
      text.append(0x0A)
    }
    func section<Value>(
      _ name: String, _ members: [String: Value], _ write: (String, Value) -> Void
    ) {
      guard !members.isEmpty else { return }
      text += "    ".utf8
      text += name.utf8
      text += ":\n".utf8
      var pairs = Array(members)
      if pairs.count > 1 { pairs.sort { $0.key < $1.key } }
      for pair in pairs { write(pair.key, pair.value) }
    }
    text += "  ".utf8
    text += stage.name.utf8
    text += ":\n    stage: ".utf8
    text += stage.declaration.name.utf8
    text += "@\(stage.declaration.version)\n".utf8
    // A file parameter is named by its base name: where it lies differs from machine to machine.
    section("params", stage.keyParameters) { key, value in
      if case .file = stage.declaration.parameters.first(where: { $0.name == key })?.kind,
        let path = value.text
      {
        return line(key, JSON.string((path as NSString).lastPathComponent).canonical)
      }
      line(key, value.canonical)
    }
    func tree(_ port: String, _ tree: Tree) {
      text += "      ".utf8
      text += port.utf8
      text += ": { items: \(tree.count), digest: ".utf8
      text += tree.digest.hex.utf8
      text += " }\n".utf8
    }
    section("inputs", report.inputs, tree)
    section("outputs", report.outputs ?? [:]) { tree($0, $1.tree) }
    section("metrics", report.metrics) { line($0, String(format: "%.6g", $1)) }
    guard !report.quarantined.isEmpty else { return }
    text += "    quarantined:\n".utf8
    for item in report.quarantined.sorted(by: { $0.id < $1.id }) {
      line(JSON.string(item.id).canonical, JSON.string(item.reason).canonical)
    }
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
