import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// Lays results out for people under `runs/NAME/RESULT/`.
enum Results {
  static func lay(_ plan: Plan, _ reports: [String: StageReport], runner: ActionRunner, root: String)
    async throws
    -> [LaidResult]
  {
    var laid: [LaidResult] = []
    for result in plan.results {
      let parts = result.references.compactMap { reference -> (artifact: Artifact, label: String?)? in
        guard let (stage, port) = reference.origin, let artifact = reports[stage]?.outputs?[port] else {
          return nil
        }
        if case .cell(_, _, let label) = reference { return (artifact, label) }
        return (artifact, nil)
      }
      guard !parts.isEmpty else { continue }
      let origin = result.references[0].origin
      // The one item of a stage over all needs no folder of its own.
      let isAlone =
        parts.count == 1 && parts[0].artifact.tree.count == 1
        && origin.flatMap { plan.stage($0.stage)?.declaration.per } == .all
      let folder = (root == "." ? "" : root + "/") + "runs/\(plan.name)/\(result.name)"
      let artifact = Artifact.union(parts)
      var beside: [ItemFile] = []
      for reference in result.references {
        guard let stage = reference.origin?.stage, let provenance = runner.world.provenance[stage] else {
          continue
        }
        let text = Array(provenance.attribution(stage, pipeline: plan.name).utf8)
        let name = result.references.count == 1 ? "ATTRIBUTION.md" : "ATTRIBUTION-\(safe(stage)).md"
        let digest = try runner.engine.store.put(text)
        beside.append(ItemFile(name: name.replacing("/", with: "-"), digest: digest, size: text.count))
      }
      laid.append(
        try await lay(result.name, artifact, isAlone: isAlone, beside: beside, folder: folder, runner: runner)
      )
    }
    return laid
  }

  private static func lay(
    _ name: String, _ artifact: Artifact, isAlone: Bool, beside: [ItemFile], folder: String,
    runner: ActionRunner
  ) async throws -> LaidResult {
    var wanted: [String: ItemFile] = [:]
    for item in artifact.items {
      let base = isAlone || item.id.isEmpty ? "" : safe(item.id)
      for file in item.files {
        let ending = safe((file.name as NSString).pathExtension)
        let name = file.name == gitAttributes ? file.name : safe(file.name)
        let path =
          item.files.count == 1 && !base.isEmpty
          ? "\(base).\(ending)" : (base.isEmpty ? name : "\(base)/\(name)")
        wanted[path] = file
      }
    }
    let example = wanted.keys.filter { !$0.hasPrefix(".") }.min() ?? ""
    for file in beside { wanted[file.name] = file }
    let store = runner.engine.store
    let manifest = "\(folder)/.flow"
    let wantedListing = listing(wanted.mapValues(\.digest.hex))
    let result = LaidResult(
      name: name, folder: folder, count: wanted.count, example: example)
    let before = FileBytes.read(manifest) ?? []
    let old = String(decoding: before, as: UTF8.self)
    let isThere = wanted.keys.allSatisfy { access("\(folder)/\($0)", F_OK) == 0 }
    if before == wantedListing, isThere { return result }
    Results.foldersOf(wanted.keys).forEach { Store.sweep(beside: "\(folder)/\($0)") }
    let known = Dictionary(
      old.split(separator: "\n").map { line in (String(line.dropFirst(65)), String(line.prefix(64))) },
      uniquingKeysWith: { $1 })
    for path in known.keys where wanted[path] == nil && isOurs(path) {
      store.disk.discard("\(folder)/\(path)")
      // The folders that held nothing else go too; one that isn't empty stays.
      var parent = Path.parent(path)
      while !parent.isEmpty, rmdir("\(folder)/\(parent)") == 0 {
        parent = Path.parent(parent)
      }
    }
    let open = wanted.filter { path, file in
      known[path] != file.digest.hex || access("\(folder)/\(path)", F_OK) != 0
    }
    // What is about to change is no longer vouched for: not even when this run or the power ends half-way.
    let sure = known.filter { path, _ in wanted[path] != nil && open[path] == nil }
    if sure.count < known.count {
      try store.publish(listing(sure), at: manifest)
      try store.syncAll(folder)
    }
    for (path, file) in open.sorted(by: { $0.key < $1.key }) {
      try await place(file, "\(folder)/\(path)", runner)
    }
    if !open.isEmpty { try store.syncAll(folder) }
    try store.publish(wantedListing, at: manifest)
    return result
  }

  /// The folders that `paths` lie in, and the one of the listing.
  private static func foldersOf(_ paths: some Sequence<String>) -> Set<String> {
    Set(paths.map { Path.parent($0) }).union([""])
  }

  /// What a results folder holds, as its `.flow` says: a line a file, digest and path.
  private static func listing(_ files: [String: String]) -> [UInt8] {
    Array(files.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)\n" }.joined().utf8)
  }

  /// Puts an object's bytes at `path`; one that is gone or damaged is made again.
  private static func place(_ file: ItemFile, _ path: String, _ runner: ActionRunner) async throws {
    let store = runner.engine.store
    do { try store.materialise(file.digest, size: file.size, at: path) } catch StoreError.missing {
      try await runner.restore(file.digest, Grant(threads: runner.engine.capacity.threads))
      try store.materialise(file.digest, size: file.size, at: path)
    }
  }

  /// An item's name as a path that stays within its folder and that no other name becomes.
  static func safe(_ id: String) -> String {
    let cleaned = id.split(separator: "/").map { part in
      var name = String(part.map { $0.isLetter || $0.isNumber || "._-~ =,+".contains($0) ? $0 : "_" })
      while name.utf8.count > 100 { name.removeLast() }
      return name.hasPrefix(".") || name.hasPrefix("-") ? "_" + name.dropFirst() : name
    }
    let path = cleaned.prefix(16).joined(separator: "/")
    // By its bytes: two that differ in how an accent is written are one text, but not one name.
    return path.utf8.elementsEqual(id.utf8) ? path : "\(path)~\(Digest(of: Array(id.utf8)).hex.prefix(8))"
  }

  /// The one hidden file that results may have: what Git LFS must know of a folder to hand on.
  private static let gitAttributes = ".gitattributes"

  /// Whether a path of the listing is one that could have been written there.
  private static func isOurs(_ path: String) -> Bool {
    let parts = path.split(separator: "/")
    return !path.isEmpty && !path.hasPrefix("/")
      && parts.indices.allSatisfy {
        !parts[$0].hasPrefix(".") || ($0 == parts.count - 1 && parts[$0] == gitAttributes)
      }
  }
}
