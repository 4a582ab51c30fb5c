public import FlowCore
import Foundation

/// What two stores give each other: objects and records as files, each checked before it is taken.
extension Store {
  /// Where an object lies below the folder of a store.
  public static func objectName(_ digest: Digest) -> String {
    "objects/\(digest.hex.prefix(2))/\(digest.hex).zst"
  }

  /// Where a record lies below the folder of a store.
  public static func recordName(_ key: Digest) -> String { "actions/\(key.hex.prefix(2))/\(key.hex)" }

  /// Lays the object's file at `path`, by a hard link where the disk has them, once it was read and found whole.
  /// - Returns: its bytes on disk; `nil` when the object isn't there or was damaged (then it is in quarantine).
  /// - Throws: `StoreError`.
  public func lend(_ digest: Digest, at path: String) throws(StoreError) -> Int? {
    let own = self.path(of: digest)
    guard contains(digest) else { return nil }
    guard try holds(digest, own) else {
      quarantine(own)
      return nil
    }
    return try lay(own, at: path)
  }

  /// Lays the record's file at `path`.
  /// - Returns: its bytes on disk; `nil` when there is no whole record.
  /// - Throws: `StoreError`.
  public func lend(record key: Digest, at path: String) throws(StoreError) -> Int? {
    guard record(key) != nil else { return nil }
    return try lay(recordPath(key), at: path)
  }

  private func lay(_ own: String, at path: String) throws(StoreError) -> Int? {
    try makeFolder(Path.parent(path))
    do throws(FileError) { try disk.link(own, path) } catch {
      if error.code == ENOENT { return nil }
      guard let bytes = FileBytes.read(own) else { return nil }
      try publish(bytes, at: path)
    }
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : nil
  }

  /// Takes over the file at `path`, on the store's file system, as the object `digest`.
  /// - Returns: whether it held that object; if not, it is deleted.
  /// - Throws: `StoreError`.
  public func adopt(_ digest: Digest, from path: String) throws(StoreError) -> Bool {
    guard try holds(digest, path) else {
      disk.discard(path)
      return false
    }
    chmod(path, 0o444)
    try moving(path, to: self.path(of: digest))
    return true
  }

  /// The record in the file at `path`; `nil` when it is damaged or names a file that could lie outside its folder.
  public func foreignRecord(at path: String) -> ActionRecord? {
    guard let record = FileBytes.read(path).flatMap(ActionRecord.init(file:)) else { return nil }
    let names = record.outputs.values.flatMap { $0.flatMap { $0.files.map(\.name) } }
    let isSafe = names.allSatisfy {
      !$0.isEmpty && $0 != "." && $0 != ".." && !$0.contains { "/\0".contains($0) }
    }
    return isSafe ? record : nil
  }

  /// Whether the file decodes to what the digest says.
  private func holds(_ digest: Digest, _ path: String) throws(StoreError) -> Bool {
    let input: OpenFile
    do throws(FileError) { input = try disk.opening(path, .read) } catch { return false }
    defer { try? disk.close(input) }
    return try ObjectFile.decode(input, to: nil, limit: .max, disk) == digest
  }

  /// An empty folder for files in exchange, of this process. Folders of processes that have gone are removed.
  /// - Throws: `StoreError`.
  public func exchangeFolder() throws(StoreError) -> String {
    let parent = root + "/tmp"
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    where name.hasPrefix("exchange-") {
      if let owner = Int32(name.dropFirst(9).prefix { $0 != "-" }), kill(owner, 0) == 0 || errno != ESRCH {
        continue
      }
      try? FileManager.default.removeItem(atPath: "\(parent)/\(name)")
    }
    let path = "\(parent)/exchange-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    try makeFolder(path)
    return path
  }
}
