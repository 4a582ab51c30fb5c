public import FlowCore
public import Foundation

/// What tells one state of a file from another without reading it: where it lies, its size and its times, change time
/// included (a tool that restores the modification time can't restore that one).
public struct FileIdentity: Sendable, Hashable {
  /// Device, inode, size in bytes, modification and change time in ns.
  public var device: Int, inode: Int, size: Int, modified: Int, changed: Int

  /// The identity that `status` gives; `nil` for what is no regular file.
  public init?(_ status: stat) {
    guard status.st_mode & S_IFMT == S_IFREG else { return nil }
    device = Int(truncatingIfNeeded: status.st_dev)
    inode = Int(truncatingIfNeeded: status.st_ino)
    size = Int(status.st_size)
    modified = status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    changed = status.st_ctim.tv_sec * 1_000_000_000 + status.st_ctim.tv_nsec
  }

  /// The identity of the file at `path`.
  public init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  init(device: Int, inode: Int, size: Int, modified: Int, changed: Int) {
    (self.device, self.inode, self.size, self.modified, self.changed) = (
      device, inode, size, modified, changed
    )
  }
}

/// Digests of source files, kept while the file's identity stays the same.
public final class StatCache {
  private struct Entry {
    var identity: FileIdentity
    var digest: Digest
    /// When it was hashed, ns.
    var at: Int
  }
  private let path: String
  private let store: Store
  private var entries: [String: Entry] = [:]
  private var changed = false
  private let here = FileManager.default.currentDirectoryPath

  /// The cache of `store`.
  public init(_ store: Store) {
    self.store = store
    path = store.root + "/stat"
    guard let bytes = store.readChecked(path) else { return }
    var reader = ByteReader(bytes)
    let read = reader.list { reader -> (String, Entry)? in
      guard let path = reader.text(), let device = reader.number(), let inode = reader.number(),
        let size = reader.number(), let modified = reader.number(), let changed = reader.number(),
        let digest = reader.digest(), let at = reader.number()
      else { return nil }
      let identity = FileIdentity(
        device: device, inode: inode, size: size, modified: modified, changed: changed)
      return (path, Entry(identity: identity, digest: digest, at: at))
    }
    entries = Dictionary(read ?? [], uniquingKeysWith: { $1 })
  }

  /// Digest and size of the file at `path`; `nil` when it can't be read. A file changed within 20 ms of being hashed is
  /// hashed again next time, as its times could hide a later edit.
  /// - Parameter identity: the file's identity, when it is known already.
  public func digest(_ path: String, identity known: FileIdentity? = nil) -> (digest: Digest, size: Int)? {
    guard let identity = known ?? FileIdentity(path: path) else { return nil }
    let full = path.hasPrefix("/") ? path : here + "/" + path
    if let entry = entries[full], entry.identity == identity,
      max(identity.modified, identity.changed) < entry.at - 20_000_000
    {
      return (entry.digest, identity.size)
    }
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    guard let (digest, size) = StatCache.hash(path) else { return nil }
    guard let after = FileIdentity(path: path), after == identity else { return self.digest(path) }
    entries[full] = Entry(identity: identity, digest: digest, at: now.tv_sec * 1_000_000_000 + now.tv_nsec)
    changed = true
    return (digest, size)
  }

  /// Digest and size of the file at `path` by reading it, a piece at a time.
  public static func hash(_ path: String) -> (digest: Digest, size: Int)? {
    guard let (file, size) = try? Store.openSource(path) else { return nil }
    defer { close(file.descriptor) }
    let reader = PieceReader(file, RealFileSystem(), size: size) { _ in Packer.most }
    defer { reader.end() }
    var hasher = SHA256()
    var count = 0
    do throws(StoreError) {
      while let piece = try reader.next() {
        hasher.update(piece)
        count += piece.count
      }
    } catch { return nil }
    return (hasher.finish(), count)
  }

  /// Digest and size of the file at `path` if they are known and it has not changed; it is not read.
  public func known(_ path: String) -> (digest: Digest, size: Int)? {
    guard let identity = FileIdentity(path: path) else { return nil }
    let full = path.hasPrefix("/") ? path : here + "/" + path
    guard let entry = entries[full], entry.identity == identity,
      max(identity.modified, identity.changed) < entry.at - 20_000_000
    else { return nil }
    return (entry.digest, identity.size)
  }

  /// Keeps what was learnt for the next run.
  public func save() {
    guard changed else { return }
    var writer = ByteWriter()
    writer.list(entries.sorted { $0.key < $1.key }) { writer, entry in
      writer.text(entry.key)
      let identity = entry.value.identity
      for value in [identity.device, identity.inode, identity.size, identity.modified, identity.changed] {
        writer.number(value)
      }
      writer.digest(entry.value.digest)
      writer.number(entry.value.at)
    }
    // Losing it costs a hashing, nothing else.
    try? store.publishChecked(writer.bytes, at: path)
  }
}
