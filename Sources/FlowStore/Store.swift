public import FlowCore
import Foundation

/// The content-hashed store: immutable objects named by the SHA-256 of what they hold, records of finished actions by
/// key, scratch and checkpoints of actions in progress. Several processes may use one store at once; everything is
/// published by rename, and a record only after its objects.
public struct Store: Sendable {
  /// The folder, usually `cache`.
  public let root: String
  /// The way to the disk.
  public let disk: any FileSystem
  /// Whether commits are synced.
  public let durability: Durability
  let uncommitted = Uncommitted()

  /// The store at `root`, made if need be.
  /// - Throws: `StoreError.unwritable`.
  public init(root: String, disk: any FileSystem = Disk.standard, durability: Durability = .standard)
    throws(StoreError)
  {
    self.root = root
    self.disk = disk
    self.durability = durability
    for folder in ["objects", "actions", "work", "tmp", "quarantine", "runs"]
    where access("\(root)/\(folder)", W_OK) != 0 {
      try makeFolder(root + "/" + folder)
    }
  }

  /// Makes a folder and those above it. A file that lies in its way within the store is set aside.
  func makeFolder(_ path: String) throws(StoreError) {
    do throws(FileError) { try disk.makeFolders(path) } catch {
      guard error.code == EEXIST || error.code == ENOTDIR, clear(path) else { throw StoreError(error) }
      do throws(FileError) { try disk.makeFolders(path) } catch { throw StoreError(error) }
    }
  }

  /// Sets aside the first thing on the way to the folder `path` within the store that is none; whether there was one.
  private func clear(_ path: String) -> Bool {
    guard path.hasPrefix(root + "/") else { return false }
    var here = root
    for part in path.dropFirst(root.count + 1).split(separator: "/") {
      here += "/" + part
      var status = stat()
      if lstat(here, &status) == 0, status.st_mode & S_IFMT != S_IFDIR {
        quarantine(here)
        return true
      }
    }
    return false
  }

  /// Where an object lies.
  public func path(of digest: Digest) -> String { "\(root)/\(Store.objectName(digest))" }

  /// Whether the object is there (its content is checked when read).
  public func contains(_ digest: Digest) -> Bool { access(path(of: digest), F_OK) == 0 }

  /// Whether the object is there; its time is set to now, under the lock that a collection of garbage takes to look at it
  /// and delete it, so that it is spared.
  public func isKept(_ digest: Digest) -> Bool {
    guard contains(digest) else { return false }
    let lock = lock(digest)
    defer { withExtendedLifetime(lock) {} }
    do throws(FileError) { try disk.touch(path(of: digest)) } catch { return false }
    return true
  }

  /// Deletes an object.
  public func remove(_ digest: Digest) { disk.discard(path(of: digest)) }

  /// Moves a damaged file out of the way; where that can't be, deletes it.
  public func quarantine(_ path: String) {
    let name = (path as NSString).lastPathComponent
    let to = "\(root)/quarantine/\(name).\(UInt64.random(in: 0 ... .max))"
    do throws(FileError) { try disk.rename(path, to) } catch { disk.discard(path) }
  }

  /// Deletes the files of `folder` that are not among `names`.
  func removeUnused(in folder: String, keeping names: Set<String>) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where !names.contains(name) {
      disk.discard("\(folder)/\(name)")
    }
  }

  /// Takes the kernel's lock of `key`, waiting for whoever has it; it ends with the returned value or the process.
  public func lock(_ key: Digest) -> StoreLock? { StoreLock(path: root + "/locks", key: key, disk) }

  /// The same without waiting; `nil` when somebody has it.
  public func lockIfFree(_ key: Digest) -> StoreLock? {
    StoreLock(path: root + "/locks", key: key, disk, waits: false)
  }

  /// The scratch folder of an action.
  public func workFolder(_ key: Digest) -> String { "\(root)/work/\(key.hex)" }
}
