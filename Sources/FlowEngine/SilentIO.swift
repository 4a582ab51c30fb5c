import FlowCore
import FlowStageKit

/// `StageIO` of a rank that isn't the first: it reads what the first reads, and what it gives goes nowhere.
struct SilentIO: StageIO {
  private let io: any StageIO

  init(_ io: any StageIO) { self.io = io }

  var scratchDirectory: String { io.scratchDirectory }
  var checkpointDirectory: String { io.checkpointDirectory }
  /// Ranks stop when the first says so.
  var isCancelled: Bool { false }
  func materialise(_ file: ItemFile) throws -> String { try io.materialise(file) }
  func store(_ bytes: [UInt8], as name: String) throws -> ItemFile { SilentIO.nothing(name) }
  func store(contentsOf path: String, as name: String) throws -> ItemFile { SilentIO.nothing(name) }
  func progress(_ fraction: Double, _ note: String) {}
  func log(_ line: String) {}

  private static func nothing(_ name: String) -> ItemFile {
    ItemFile(name: name, digest: Digest(of: ""), size: 0)
  }
}
