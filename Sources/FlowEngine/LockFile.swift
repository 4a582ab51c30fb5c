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

  /// One digest for many items.
  static func treeDigest(_ items: [Item]) -> Digest {
    var hasher = SHA256()
    for item in items.sorted(by: { $0.id < $1.id }) {
      hasher.field("item", item.id.utf8)
      for file in item.files { hasher.field(file.name, file.digest.hex.utf8) }
      if !item.attributes.isEmpty { hasher.field("attributes", JSON.object(item.attributes).canonical.utf8) }
    }
    return hasher.finish()
  }

  /// Replaces the blocks of finished stages, keeps those of failed ones; the path. An unchanged file is not touched.
  static func write(_ plan: Plan, _ reports: [StageReport], store: Store) throws -> String {
    let path = path(plan)
    let old = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    let oldBlocks = blocks(old)
    var text =
      "# What was made from what; written by flow, to be reviewed and kept in git.\n"
      + "lock: 1\nhash: sha256\npipeline: \(plan.name)\nstages:\n"
    for stage in plan.stages.sorted(by: { $0.name < $1.name }) {
      guard let report = reports.first(where: { $0.name == stage.name }), report.state != .failed else {
        text += oldBlocks[stage.name] ?? ""
        continue
      }
      text += block(stage, report)
    }
    if text != old { try store.publish(Array(text.utf8), at: path) }
    return path
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
    func trees(_ ports: [String: [Item]]) -> [String] {
      ports.sorted { $0.key < $1.key }.map {
        "\($0.key): { items: \($0.value.count), digest: \(treeDigest($0.value)) }"
      }
    }
    section("inputs", trees(report.inputs))
    section("outputs", trees(report.outputs ?? [:]))
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

/// Lays results out for people under `runs/NAME/RESULT/`.
enum Results {
  static func lay(_ plan: Plan, _ reports: [String: StageReport], store: Store, root: String) throws
    -> [LaidResult]
  {
    var laid: [LaidResult] = []
    for result in plan.results {
      guard case .output(let stage, let port) = result.reference, let items = reports[stage]?.outputs?[port]
      else { continue }
      let folder = (root == "." ? "" : root + "/") + "runs/\(plan.name)/\(result.name)"
      var wanted: [String: ItemFile] = [:]
      // The one item of a stage over all needs no folder of its own.
      let alone = items.count == 1 && plan.stage(stage)?.declaration.per == .all
      for item in items {
        let base = alone || item.id.isEmpty ? "" : safe(item.id)
        for file in item.files {
          let ending = (file.name as NSString).pathExtension
          let path =
            item.files.count == 1 && !base.isEmpty
            ? "\(base).\(ending)" : (base.isEmpty ? file.name : "\(base)/\(file.name)")
          wanted[path] = file
        }
      }
      let manifest = "\(folder)/.flow"
      let listing = wanted.sorted { $0.key < $1.key }.map { "\($0.value.digest.hex) \($0.key)\n" }.joined()
      laid.append(
        LaidResult(
          name: result.name, folder: folder, count: wanted.count, example: wanted.keys.sorted().first ?? ""))
      let old =
        FileManager.default.contents(atPath: manifest).map { String(decoding: $0, as: UTF8.self) } ?? ""
      let present = wanted.keys.allSatisfy { FileManager.default.fileExists(atPath: "\(folder)/\($0)") }
      if old == listing, present { continue }
      let known = Dictionary(
        old.split(separator: "\n").map { line in (String(line.dropFirst(65)), String(line.prefix(64))) },
        uniquingKeysWith: { $1 })
      for path in known.keys where wanted[path] == nil { unlink("\(folder)/\(path)") }
      for (path, file) in wanted
      where known[path] != file.digest.hex || !FileManager.default.fileExists(atPath: "\(folder)/\(path)") {
        try store.publish(try store.get(file.digest), at: "\(folder)/\(path)")
      }
      try store.publish(Array(listing.utf8), at: manifest)
    }
    return laid
  }

  /// An item's name as a path that stays within its folder.
  static func safe(_ id: String) -> String {
    id.split(separator: "/").map { part in
      let text = part.map { $0.isLetter || $0.isNumber || "._-~ ".contains($0) ? $0 : "_" }
      let name = String(text)
      return name.hasPrefix(".") ? "_" + name.dropFirst() : name
    }.joined(separator: "/")
  }
}
