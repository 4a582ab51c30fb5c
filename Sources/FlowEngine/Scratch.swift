import FlowStore
import Foundation

/// A folder for the temporary files of one action after the other. It is emptied, not removed, between them: making and
/// removing folders for every action costs more than a short command does. A kernel lock says that it is taken, so what a
/// killed process left is found and cleared by the next one.
final class Scratch: Sendable {
  /// The folder; empty but for folders when taken.
  let path: String
  private let lock: Int32

  private init(path: String, lock: Int32) {
    self.path = path
    self.lock = lock
  }

  deinit { close(lock) }

  /// A folder below `root` that nobody has taken.
  /// - Throws: `StoreError.unwritable`.
  static func take(in root: String) throws(StoreError) -> Scratch {
    if mkdir(root, 0o755) != 0, errno != EEXIST { throw failure(root) }
    for number in 0... {
      let path = "\(root)/\(number)"
      let lock = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      guard lock >= 0 else { throw failure(path) }
      guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
        let busy = errno == EWOULDBLOCK
        close(lock)
        if busy { continue }
        throw failure(path)
      }
      // Files in it are those of a killed process.
      if holdsFiles(path) { setAside(path) }
      if mkdir(path, 0o755) != 0, errno != EEXIST {
        close(lock)
        throw failure(path)
      }
      return Scratch(path: path, lock: lock)
    }
    throw failure(root)
  }

  /// Clears the folders below `root` that a killed process left.
  static func sweep(_ root: String) {
    for name in names(root) where name.hasSuffix(".lock") {
      let lock = open("\(root)/\(name)", O_RDWR | O_CLOEXEC)
      defer { close(lock) }
      guard lock >= 0, flock(lock, LOCK_EX | LOCK_NB) == 0 else { continue }
      let path = "\(root)/\(name.dropLast(5))"
      if holdsFiles(path) { setAside(path) }
    }
  }

  /// Clears a folder under another name: a child that outlived its worker still works in the one it knew.
  private static func setAside(_ path: String) {
    let old = "\(path).\(UInt64.random(in: 0 ... .max))"
    if rename(path, old) == 0 { clear(old, keepingFolders: false) }
  }

  /// Removes what the action left; of folders, keeps `in/PORT` and `out/PORT` for the next one.
  func empty() {
    for name in Scratch.names(path) {
      let inner = "\(path)/\(name)"
      if name == "in" || name == "out", Scratch.isFolder(inner) {
        for port in Scratch.names(inner) { Scratch.clear("\(inner)/\(port)", keepingFolders: true) }
      } else {
        Scratch.clear(inner, keepingFolders: false)
      }
    }
  }

  /// Makes `in/PORT` or `out/PORT` for each of `ports`, and removes those of others.
  /// - Throws: `StoreError.unwritable`.
  func makeFolders(_ kind: String, _ ports: some Sequence<String>) throws(StoreError) {
    let folder = "\(path)/\(kind)"
    if mkdir(folder, 0o755) != 0, errno != EEXIST { throw Scratch.failure(folder) }
    var there = Set(Scratch.names(folder))
    for port in ports where there.remove(port) == nil {
      let own = "\(folder)/\(port)"
      if mkdir(own, 0o755) != 0, errno != EEXIST { throw Scratch.failure(own) }
    }
    for other in there { Scratch.clear("\(folder)/\(other)", keepingFolders: false) }
  }

  private static func failure(_ path: String) -> StoreError {
    .unwritable(path: path, reason: String(cString: strerror(errno)))
  }

  private static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  private static func names(_ path: String) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
  }

  private static func holdsFiles(_ path: String) -> Bool {
    names(path).contains { name in
      let inner = "\(path)/\(name)"
      return !isFolder(inner) || holdsFiles(inner)
    }
  }

  /// Removes the files below `path` (links themselves, not what they point to) and, unless kept, `path` itself.
  private static func clear(_ path: String, keepingFolders: Bool) {
    if unlink(path) == 0 { return }
    for name in names(path) { clear("\(path)/\(name)", keepingFolders: false) }
    if !keepingFolders { rmdir(path) }
  }
}
