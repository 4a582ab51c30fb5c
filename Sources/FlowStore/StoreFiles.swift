import FlowCore
import Foundation

/// A file that is written but not yet in its place.
struct PreparedFile {
  let temporary: String, path: String, isOurs: Bool
}

/// Files that are there whole or not at all.
extension Store {
  /// A new name for a file that is being written.
  func temporaryName() -> String { "\(root)/tmp/\(Temporaries.name())" }

  /// Opens a file of the store, whose folder is made if need be.
  func opening(_ path: String, _ mode: OpenMode) throws(StoreError) -> OpenFile {
    do throws(FileError) { return try disk.opening(path, mode) } catch {
      guard error.code == ENOENT else { throw StoreError(error) }
      // Someone emptied the cache meanwhile.
      try makeFolder(Path.parent(path))
      do throws(FileError) { return try disk.opening(path, mode) } catch { throw StoreError(error) }
    }
  }

  /// Closes what was written; only then is it known to have room.
  func closing(_ file: OpenFile) throws(StoreError) {
    do throws(FileError) { try disk.close(file) } catch {
      // The system has closed it all the same.
      if error.code != EINTR { throw StoreError(error) }
    }
  }

  /// Renames within the store; the folder is made, and what is no file there is set aside.
  func moving(_ from: String, to path: String) throws(StoreError) {
    for _ in 0..<3 {
      do throws(FileError) {
        try disk.rename(from, path)
        return
      } catch {
        switch error.code {
        case ENOENT, ENOTDIR: try makeFolder(Path.parent(path))
        case EISDIR, ENOTEMPTY, EEXIST: quarantine(path)
        default: throw StoreError(error)
        }
      }
    }
    throw .unwritable(path: path, reason: "something else comes back there again and again")
  }

  /// Writes a file whole or not at all: a temporary file on the same file system, then renamed. What a power cut tears
  /// is found by the digest when it is read.
  /// - Throws: `StoreError.unwritable`.
  public func publish(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o644) throws(StoreError) {
    try finish(try prepare(bytes, at: path, mode: mode))
  }

  /// Writes a file beside its place, where `commit` or `publish` will put it.
  func prepare(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o644) throws(StoreError) -> PreparedFile {
    let above = Path.parent(path)
    let folder = above.isEmpty ? "." : above
    // Beside the target where that lies outside the store, which may be on another file system.
    let isOurs = path.hasPrefix(root + "/")
    let temporary = isOurs ? temporaryName() : "\(folder)/.flow-\(Temporaries.name())"
    if !isOurs { try makeFolder(folder) }
    do throws(FileError) { try disk.writeFile(temporary, bytes, permissions: mode) } catch {
      throw StoreError(error, needed: bytes.count)
    }
    return PreparedFile(temporary: temporary, path: path, isOurs: isOurs)
  }

  /// Puts a prepared file in its place.
  func finish(_ file: PreparedFile) throws(StoreError) {
    do throws(StoreError) {
      if file.isOurs {
        try moving(file.temporary, to: file.path)
      } else {
        try renaming(file.temporary, file.path)
      }
    } catch {
      disk.discard(file.temporary)
      throw error
    }
  }

  /// Renames, also out of the store.
  func renaming(_ from: String, _ to: String) throws(StoreError) {
    do throws(FileError) { try disk.rename(from, to) } catch { throw StoreError(error) }
  }
}
