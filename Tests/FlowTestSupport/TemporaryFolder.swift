public import Foundation

/// A folder that is deleted with its holder.
public final class TemporaryFolder: Sendable {
  /// Its path.
  public let path: String

  /// A new, empty folder.
  public init() throws {
    path = NSTemporaryDirectory() + "flow-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes `text` to the file `name` in it.
  public func write(_ name: String, _ text: String) throws { try write(name, Data(text.utf8)) }

  /// Writes `data` to the file `name` in it.
  public func write(_ name: String, _ data: Data) throws {
    let url = URL(fileURLWithPath: path + "/" + name)
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: url)
  }

  /// The bytes of the file `name` in it; `nil` when it isn't there.
  public func read(_ name: String) -> Data? { FileManager.default.contents(atPath: path + "/" + name) }

  /// The text of the file `name` in it; empty when it isn't there.
  public func text(_ name: String) -> String { read(name).map { String(decoding: $0, as: UTF8.self) } ?? "" }
}

/// The repository's folder, found from this file.
public let repositoryRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent().path
