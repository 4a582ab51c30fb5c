public import FlowCore
import Foundation

extension Store {
  /// Writes an object's bytes to a new file at `path` that nobody looks for before this returns, so that a small one needs
  /// no temporary file beside it; the bytes are checked as everywhere.
  /// - Throws: `StoreError.missing`, `StoreError.unwritable`.
  public func unpack(_ digest: Digest, size: Int, at path: String, mode: UInt32) throws(StoreError) {
    guard size <= 1 << 20 else { return try materialise(digest, size: size, at: path, mode: mode) }
    let bytes = try get(digest, size: size)
    do throws(FileError) { try disk.writeFile(path, bytes, permissions: mode) } catch {
      guard error.code == ENOENT else { throw StoreError(error, needed: bytes.count) }
      do throws(FileError) {
        try disk.makeFolders(Path.parent(path))
        try disk.writeFile(path, bytes, permissions: mode)
      } catch { throw StoreError(error, needed: bytes.count) }
    }
  }
}
