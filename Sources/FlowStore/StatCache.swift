public import FlowCore
import Foundation

/// Digests of source files, kept while the file's identity, size and times (change time included) stay the same.
public final class StatCache {
  private struct Entry: Codable {
    var identity: [Int]
    var digest: Digest
    /// When it was hashed, ns.
    var at: Int
  }
  private let path: String
  private let store: Store
  private var entries: [String: Entry]
  private var changed = false

  /// The cache of `store`.
  public init(_ store: Store) {
    self.store = store
    path = store.root + "/stat.json"
    let data = FileManager.default.contents(atPath: path) ?? Data()
    entries = (try? JSONDecoder().decode([String: Entry].self, from: data)) ?? [:]
  }

  private static func identity(_ path: String) -> (fields: [Int], latest: Int)? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let modified = status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    let changed = status.st_ctim.tv_sec * 1_000_000_000 + status.st_ctim.tv_nsec
    return (
      [Int(status.st_dev), Int(status.st_ino), Int(status.st_size), modified, changed], max(modified, changed)
    )
  }

  /// Digest and size of the file at `path`; `nil` when it can't be read. A file changed within 20 ms of being hashed is
  /// hashed again next time, as its times could hide a later edit.
  public func digest(_ path: String) -> (digest: Digest, size: Int)? {
    guard let (fields, _) = StatCache.identity(path) else { return nil }
    let full = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    if let entry = entries[full], entry.identity == fields, fields[3] < entry.at - 20_000_000,
      fields[4] < entry.at - 20_000_000
    {
      return (entry.digest, fields[2])
    }
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    guard let file = FileHandle(forReadingAtPath: path) else { return nil }
    defer { try? file.close() }
    var hasher = SHA256()
    var size = 0
    while let block = try? file.read(upToCount: 1 << 20), !block.isEmpty {
      block.withUnsafeBytes { hasher.update($0) }
      size += block.count
    }
    let digest = hasher.finish()
    guard let after = StatCache.identity(path), after.fields == fields else { return self.digest(path) }
    entries[full] = Entry(identity: fields, digest: digest, at: now.tv_sec * 1_000_000_000 + now.tv_nsec)
    changed = true
    return (digest, size)
  }

  /// Keeps what was learnt for the next run.
  public func save() {
    guard changed, let data = try? JSONEncoder().encode(entries) else { return }
    try? store.publish([UInt8](data), at: path)
  }
}
