public import FlowCore
import Foundation
import Synchronization

/// `StageIO` over a plain folder, to run a stage without an engine: in tests and examples.
public final class FolderIO: StageIO {
  private let root: String
  private let lines = Mutex<[String]>([])

  /// Keeps everything below `root`, which is made if need be.
  public init(root: String) throws {
    self.root = root
    for folder in ["objects", "scratch", "checkpoint"] {
      try FileManager.default.createDirectory(atPath: root + "/" + folder, withIntermediateDirectories: true)
    }
  }

  /// What the stage logged.
  public var log: [String] { lines.withLock { $0 } }

  /// See `StageIO`.
  public var scratchDirectory: String { root + "/scratch" }
  /// See `StageIO`.
  public var checkpointDirectory: String { root + "/checkpoint" }
  /// See `StageIO`.
  public var isCancelled: Bool { false }

  /// See `StageIO`.
  public func materialise(_ file: ItemFile) throws -> String { folder(file.digest) + "/" + file.name }

  /// See `StageIO`.
  public func store(_ bytes: [UInt8], as name: String) throws -> ItemFile {
    let digest = Digest(of: bytes)
    try FileManager.default.createDirectory(atPath: folder(digest), withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: folder(digest) + "/" + name))
    return ItemFile(name: name, digest: digest, size: bytes.count)
  }

  /// See `StageIO`.
  public func store(contentsOf path: String, as name: String) throws -> ItemFile {
    try store([UInt8](Data(contentsOf: URL(fileURLWithPath: path))), as: name)
  }

  /// See `StageIO`.
  public func progress(_ fraction: Double, _ note: String) {}
  /// See `StageIO`.
  public func log(_ line: String) { lines.withLock { $0.append(line) } }

  private func folder(_ digest: Digest) -> String { root + "/objects/" + digest.hex }
}
