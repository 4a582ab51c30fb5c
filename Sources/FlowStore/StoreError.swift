public import FlowCore
import Foundation

/// What can go wrong in the store.
public enum StoreError: Error, Sendable, Hashable, CustomStringConvertible {
  case unwritable(path: String, reason: String)
  case unreadable(String)
  case missing(Digest)
  case changed(String)
  case outOfMemory

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unwritable(let path, let reason): "can't write \(path): \(reason)"
    case .unreadable(let reason): "can't be read: \(reason)"
    case .missing(let digest): "object \(digest.short) is missing or damaged; it will be made again"
    case .changed(let path): "\(path) changed while it was read; run again"
    case .outOfMemory: "out of memory"
    }
  }

  /// The failure of a call. On a full disk it says how much would be needed at least, and how much is free.
  init(_ error: FileError, needed: Int? = nil) {
    guard error.call != "read" else {
      self = .unreadable("\(error)")
      return
    }
    var reason = "\(error.call): \(error.reason)"
    if error.code == ENOSPC || error.code == EDQUOT {
      let need = needed.map { "\($0) bytes needed, " } ?? ""
      reason += " (\(need)\(Store.freeBytes(error.path)) bytes free); 'flow cache gc' makes room"
    }
    self = .unwritable(path: error.path, reason: reason)
  }
}

extension Store {
  /// Free bytes of the file system of `path`.
  fileprivate static func freeBytes(_ path: String) -> Int {
    var status = statvfs()
    var at = path
    while statvfs(at, &status) != 0 {
      let above = Path.parent(at)
      guard above != at else { return 0 }
      at = above.isEmpty ? "." : above
    }
    return Int(status.f_bavail) * Int(status.f_frsize)
  }
}
