import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// A source's files as items, their digests through the stat cache.
struct SourceScan {
  /// Every item, sorted by id.
  private(set) var items: [Item] = []
  /// Where each object's bytes can be read, until they are in the store.
  private(set) var paths: [Digest: String] = [:]
  /// What a manifest says of the licences and authors of single items.
  private(set) var rights: [String: Rights] = [:]

  /// Scans the source's folder, takes its one file, or reads its manifest. Hidden files are skipped; files of one stem
  /// are one item.
  /// - Throws: `Diagnostics` when there is nothing at the path, or the manifest has mistakes.
  init(_ source: PlannedSource, stats: StatCache) throws {
    var status = stat()
    guard stat(source.path, &status) == 0 else {
      throw Diagnostics([
        Diagnostic(
          code: "E030", "source '\(source.name)': there is nothing at '\(source.path)'", at: source.location,
          help: "give a folder of songs: --set sources.\(source.name).path=DIR")
      ])
    }
    if source.isManifest {
      (items, paths, rights) = try ManifestFile.read(source, stats: stats)
      return
    }
    var (files, unreadable) = ([Found](), [String]())
    if status.st_mode & S_IFMT == S_IFDIR {
      let root = source.path.hasSuffix("/") ? String(source.path.dropLast()) : source.path
      let (include, exclude) = (source.include.map(Glob.init), source.exclude.map(Glob.init))
      SourceScan.walk(root, "", depth: 0, unreadable: { unreadable.append($0) }) { found in
        let path = found.relative
        if !include.isEmpty, !include.contains(where: { $0.matches(path) }) { return }
        if exclude.contains(where: { $0.matches(path) }) { return }
        files.append(found)
      }
      files.sort { $0.relative < $1.relative }
    } else if let identity = FileIdentity(status) {
      let name = (source.path as NSString).lastPathComponent
      files = [Found(relative: name, path: source.path, identity: identity)]
    }
    try group(files, unreadable, source, stats)
  }

  struct Found {
    /// The path within the source.
    var relative: String
    var path: String
    var identity: FileIdentity
  }

  private mutating func group(
    _ files: [Found], _ unreadable: [String], _ source: PlannedSource, _ stats: StatCache
  ) throws {
    var byItem: [String: [ItemFile]] = [:]
    byItem.reserveCapacity(files.count)
    var doubles = unreadable.map { path in
      Diagnostic(
        code: "E032", "source '\(source.name)': '\(path)' can't be read", at: source.location,
        notes: ["its name is not UTF-8"], help: "rename it")
    }
    for file in files {
      let last =
        file.relative.lastIndex(of: "/").map { file.relative.index(after: $0) } ?? file.relative.startIndex
      guard let dot = file.relative[last...].lastIndex(of: "."), dot > last else { continue }
      guard let (digest, size) = stats.digest(file.path, identity: file.identity) else {
        doubles.append(
          Diagnostic(
            code: "E032", "source '\(source.name)': '\(file.path)' can't be read", at: source.location,
            help: "mend its permissions, or leave it out: exclude"))
        continue
      }
      // The name within the item carries no part of the item's id, so that a renamed file is the same item.
      let (id, name) = (
        String(file.relative[..<dot]), "source" + file.relative[dot...].lowercased()
      )
      if byItem[id]?.contains(where: { $0.name == name }) ?? false {
        doubles.append(
          Diagnostic(
            code: "E032", "source '\(source.name)': two files are the item '\(id)'", at: source.location,
            notes: [
              "\(file.path) differs from another only in the case of its ending, or in how an accent is written"
            ],
            help: "rename one"))
      }
      byItem[id, default: []].append(ItemFile(name: name, digest: digest, size: size))
      paths[digest] = file.path
    }
    if !doubles.isEmpty { throw Diagnostics(doubles) }
    items = byItem.map { Item(id: $0.key, files: $0.value) }.sorted { $0.id < $1.id }
  }

  /// Every regular file below `folder` with its identity, hidden ones left out; links to files are followed, links to
  /// folders too, 32 levels deep at most. A name that is no UTF-8 can't be an item's: it is unreadable.
  private static func walk(
    _ folder: String, _ prefix: String, depth: Int, unreadable: (String) -> Void, _ body: (Found) -> Void
  ) {
    guard depth < 32, let stream = opendir(folder) else { return }
    defer { closedir(stream) }
    let descriptor = dirfd(stream)
    while let entry = readdir(stream) {
      let (name, isText) = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) {
          (String(cString: $0), String(validatingCString: $0) != nil)
        }
      }
      if name.hasPrefix(".") { continue }
      guard isText else {
        unreadable("\(folder)/\(name)")
        continue
      }
      var status = stat()
      guard fstatat(descriptor, name, &status, 0) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFDIR {
        walk("\(folder)/\(name)", "\(prefix)\(name)/", depth: depth + 1, unreadable: unreadable, body)
      } else if let identity = FileIdentity(status) {
        body(Found(relative: prefix + name, path: "\(folder)/\(name)", identity: identity))
      }
    }
  }

  /// The items that have a file of `type`.
  func items(of type: ArtifactType) -> [Item] {
    let endings = type.sourceExtensions.map { "." + $0 }
    if endings == ["." + ArtifactType.anyExtension] { return items }
    return items.filter { item in item.files.contains { file in endings.contains { file.name.hasSuffix($0) } }
    }
  }
}

/// A pattern of paths: `*` and `?` within a part, `**` across parts, `{a,b}` either.
struct Glob: Sendable {
  private let alternatives: [[Substring]]

  init(_ pattern: String) {
    alternatives = Glob.expanded(pattern).map { pattern in
      // A pattern without a slash is meant at any depth, as in .gitignore.
      let whole = pattern.contains("/") ? pattern : "**/" + pattern
      return whole.split(separator: "/").map { Substring(String($0)) }
    }
  }

  private static func expanded(_ pattern: String) -> [String] {
    guard let open = pattern.firstIndex(of: "{"), let close = pattern[open...].firstIndex(of: "}") else {
      return [pattern]
    }
    let (head, tail) = (String(pattern[..<open]), String(pattern[pattern.index(after: close)...]))
    let choices = pattern[pattern.index(after: open)..<close].split(
      separator: ",", omittingEmptySubsequences: false)
    guard choices.count <= 64 else { return [pattern] }
    return choices.flatMap { expanded(head + $0 + tail) }
  }

  func matches(_ path: String) -> Bool {
    let parts = path.split(separator: "/")
    return alternatives.contains { Glob.matches($0[...], parts[...]) }
  }

  private static func matches(_ pattern: ArraySlice<Substring>, _ parts: ArraySlice<Substring>) -> Bool {
    guard let first = pattern.first else { return parts.isEmpty }
    if first == "**" {
      return matches(pattern.dropFirst(), parts) || (!parts.isEmpty && matches(pattern, parts.dropFirst()))
    }
    guard let part = parts.first, fnmatch(String(first), String(part), 0) == 0 else { return false }
    return matches(pattern.dropFirst(), parts.dropFirst())
  }
}
