import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// A source's files as items, their digests through the stat cache.
struct SourceScan {
  /// Every item, sorted by id.
  let items: [Item]
  /// Where each object's bytes can be read, until they are in the store.
  let paths: [Digest: String]

  /// Scans the source's folder, or takes its one file. Hidden files are skipped; files of one stem are one item.
  /// - Throws: `Diagnostics` when there is nothing at the path.
  init(_ source: PlannedSource, stats: StatCache) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: source.path, isDirectory: &isFolder) else {
      throw Diagnostics([
        Diagnostic(
          code: "E030", "source '\(source.name)': there is nothing at '\(source.path)'", at: source.location,
          help: "give a folder of songs: --set sources.\(source.name).path=DIR")
      ])
    }
    var files: [(id: String, name: String, path: String)] = []
    func add(_ relative: String, _ path: String) {
      let name = (relative as NSString).lastPathComponent
      guard !name.hasPrefix("."), name.contains(".") else { return }
      files.append(((relative as NSString).deletingPathExtension, name, path))
    }
    if isFolder.boolValue {
      let root = source.path.hasSuffix("/") ? String(source.path.dropLast()) : source.path
      let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
      for name in names where !name.split(separator: "/").contains(where: { $0.hasPrefix(".") }) {
        add(name, root + "/" + name)
      }
    } else {
      add((source.path as NSString).lastPathComponent, source.path)
    }
    var byItem: [String: [ItemFile]] = [:]
    var doubles: [Diagnostic] = []
    var found: [Digest: String] = [:]
    for file in files.sorted(by: { $0.path < $1.path }) {
      guard let (digest, size) = stats.digest(file.path) else { continue }
      // The name within the item carries no part of the item's id, so that a renamed file is the same item.
      let name = "source." + (file.name as NSString).pathExtension.lowercased()
      if byItem[file.id]?.contains(where: { $0.name == name }) ?? false {
        doubles.append(
          Diagnostic(
            code: "E032", "source '\(source.name)': two files are the item '\(file.id)'", at: source.location,
            notes: ["\(file.path) differs from another only in the case of its ending"], help: "rename one"))
      }
      byItem[file.id, default: []].append(ItemFile(name: name, digest: digest, size: size))
      found[digest] = file.path
    }
    if !doubles.isEmpty { throw Diagnostics(doubles) }
    items = byItem.map { Item(id: $0.key, files: $0.value) }.sorted { $0.id < $1.id }
    paths = found
  }

  /// The items that have a file of `type`.
  func items(of type: ArtifactType) -> [Item] {
    items.filter { item in
      item.files.contains { file in
        type.sourceExtensions.contains((file.name as NSString).pathExtension)
          || type.sourceExtensions.contains(ArtifactType.anyExtension)
      }
    }
  }
}
