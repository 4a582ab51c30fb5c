import FlowCore
import FlowStore
import Foundation

/// The file that a command was told to write.
enum OutputFile {
  /// Throws unless a file can be written at `path`, so that hours of work are not lost to a mistyped folder. What is there
  /// is replaced by the new file: so it must be a file itself, not a device or a pipe.
  static func check(_ path: String) throws {
    let folder = Path.parent(path)
    guard access(folder.isEmpty ? "." : folder, W_OK) == 0 else {
      throw StoreError.unwritable(path: path, reason: String(cString: strerror(errno)))
    }
    var found = stat()
    guard lstat(path, &found) == 0 else { return }
    let kind = found.st_mode & S_IFMT
    guard kind == S_IFREG || kind == S_IFLNK else {
      let what = kind == S_IFDIR ? "it is a folder" : "it is no file, and would be replaced by one"
      throw StoreError.unwritable(path: path, reason: what + "; name a file")
    }
  }
}
