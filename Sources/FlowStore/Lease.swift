public import FlowCore
import Foundation

/// Says that a run goes on, so that a collection of garbage spares what it uses. The kernel's lock on its file ends with
/// the process, however that ends.
public final class Lease: Sendable {
  private let file: OpenFile
  private let path: String
  private let disk: any FileSystem

  fileprivate init(_ file: OpenFile, _ path: String, _ disk: any FileSystem) {
    self.file = file
    self.path = path
    self.disk = disk
  }

  deinit {
    disk.discard(path)
    try? disk.close(file)
  }
}

extension Store {
  /// A lease for a run of `pipeline`; `nil` where the cache can't be written, and then nothing is collected there either.
  public func lease(_ pipeline: String) -> Lease? {
    let name = Temporaries.name()
    let (temporary, path) = ("\(root)/tmp/\(name)", "\(root)/leases/\(name)")
    do {
      let file = try disk.opening(temporary, .lock)
      do {
        // Locked before it can be seen, or it would be taken for a dead one.
        guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 else {
          throw FileError("flock", temporary, errno)
        }
        var failure: FileError?
        Array(pipeline.utf8).withUnsafeBytes { raw in
          do throws(FileError) { try disk.writeAll(file, raw) } catch { failure = error }
        }
        if let failure { throw failure }
        try moving(temporary, to: path)
      } catch {
        try? disk.close(file)
        disk.discard(temporary)
        return nil
      }
      return Lease(file, path, disk)
    } catch { return nil }
  }

  /// The running runs: their pipelines, and since when (ns). What dead ones left is removed.
  func leases() -> [(pipeline: String, since: Int)] {
    names(in: "leases").compactMap { name in
      let path = "\(root)/leases/\(name)"
      let file = open(path, O_RDONLY | O_CLOEXEC)
      guard file >= 0 else { return nil }
      defer { close(file) }
      if flock(file, LOCK_EX | LOCK_NB) == 0 {
        disk.discard(path)
        return nil
      }
      var status = stat()
      guard fstat(file, &status) == 0, let bytes = FileBytes.read(path) else { return nil }
      let since = status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
      return (String(decoding: bytes, as: UTF8.self), since)
    }
  }

  /// Keeps the results of these actions of `pipeline`, and no others of its, from being collected.
  /// - Throws: `StoreError`.
  public func pin(_ keys: [Digest], of pipeline: String) throws(StoreError) {
    let path = "\(root)/pins/\(pipeline)"
    let old = FileBytes.read(path)
    let text = Array(Set(keys).sorted().map { "\($0.hex)\n" }.joined().utf8)
    if keys.isEmpty {
      if old != nil { disk.discard(path) }
    } else if old != text {
      try publish(text, at: path)
    }
  }

  /// All pinned actions.
  func pinnedKeys() -> Set<Digest> {
    var keys = Set<Digest>()
    for name in names(in: "pins") {
      let text = String(decoding: FileBytes.read("\(root)/pins/\(name)") ?? [], as: UTF8.self)
      keys.formUnion(text.split(separator: "\n").compactMap { Digest(hex: String($0)) })
    }
    return keys
  }
}
