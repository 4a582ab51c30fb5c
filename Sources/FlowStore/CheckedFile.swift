import FlowCore
import Foundation

extension Store {
  /// Publishes `bytes` with their digest before them, so that damage is seen when they are read.
  /// - Throws: `StoreError`.
  public func publishChecked(_ bytes: [UInt8], at path: String) throws(StoreError) {
    var writer = ByteWriter()
    writer.digest(Store.checksum(bytes, at: path))
    try publish(writer.bytes + bytes, at: path)
  }

  /// What `publishChecked` wrote; `nil` when it isn't there or is damaged (then it is set aside).
  public func readChecked(_ path: String) -> [UInt8]? {
    guard let data = try? disk.contents(path) else { return nil }
    if let body = Store.checked(data, at: path) { return body }
    quarantine(path)
    return nil
  }

  /// What `publishChecked` made `data`, the file at `path`, of; `nil` when it is damaged.
  public static func checked(_ data: [UInt8], at path: String) -> [UInt8]? {
    guard data.count >= 32 else { return nil }
    let body = Array(data[32...])
    return checksum(body, at: path) == data[..<32].withUnsafeBytes({ Digest(bytes: $0) }) ? body : nil
  }

  /// Of the bytes and the file's name, so that a file in another's place is noticed too.
  private static func checksum(_ bytes: [UInt8], at path: String) -> Digest {
    var hasher = SHA256()
    hasher.field("name", (path as NSString).lastPathComponent.utf8)
    hasher.field("bytes", bytes)
    return hasher.finish()
  }
}
