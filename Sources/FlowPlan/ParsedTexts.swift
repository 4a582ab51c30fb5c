import FlowCore
import Synchronization

/// Trees of texts that were read before, by what the texts hold: reading YAML is half of a start with a thousand stages.
/// A damaged or foreign entry is as good as none; the text is then read again.
public final class ParsedTexts: Sendable {
  private struct State {
    var known: [Digest: [UInt8]] = [:]
    var used: [Digest: [UInt8]] = [:]
    var hasNew = false
  }
  private let state = Mutex(State())

  /// Raised whenever a text gives another tree, or a tree is written in another way.
  private static let version = "flow-document/1"
  /// What is kept of texts that were not used this time.
  private static let room = 4 << 20

  /// Those that `bytes` hold, as an earlier `bytes` gave them.
  public init(_ bytes: [UInt8]?) {
    guard let bytes else { return }
    var reader = ByteReader(bytes)
    guard reader.text() == ParsedTexts.version else { return }
    let entries = reader.list { reader -> (Digest, [UInt8])? in
      guard let key = reader.digest(), let tree = reader.blob() else { return nil }
      return (key, tree)
    }
    state.withLock { $0.known = Dictionary(entries ?? [], uniquingKeysWith: { $1 }) }
  }

  /// All of them, to be kept for the next start; `nil` when nothing is new.
  public var bytes: [UInt8]? {
    state.withLock { state in
      guard state.hasNew else { return nil }
      var kept = state.used
      var size = kept.values.reduce(0) { $0 + $1.count }
      for (key, tree) in state.known.sorted(by: { $0.key.hex < $1.key.hex }) where kept[key] == nil {
        size += tree.count
        if size > ParsedTexts.room { break }
        kept[key] = tree
      }
      var writer = ByteWriter()
      writer.text(ParsedTexts.version)
      writer.list(kept.sorted { $0.key.hex < $1.key.hex }) { writer, entry in
        writer.digest(entry.key)
        writer.blob(entry.value)
      }
      return writer.bytes
    }
  }

  /// The tree of `text`, places in `file`.
  func find(_ text: String, file: String) -> DocumentNode? {
    let key = Digest(of: text)
    guard let tree = state.withLock({ $0.known[key] }) else { return nil }
    var reader = ByteReader(tree)
    guard let root = DocumentNode(from: &reader, file: file, depth: 0), reader.isAtEnd else { return nil }
    state.withLock { $0.used[key] = tree }
    return root
  }

  /// Keeps the tree of `text`.
  func keep(_ root: DocumentNode, of text: String) {
    var writer = ByteWriter()
    root.write(to: &writer)
    let tree = writer.bytes
    state.withLock { state in
      state.used[Digest(of: text)] = tree
      state.hasNew = true
    }
  }
}

extension DocumentNode {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.number(place?.line ?? 0)
    writer.number(place?.column ?? 0)
    writer.number(place?.length ?? 0)
    switch content {
    case .scalar(let text, let plain):
      writer.number(plain ? 0 : 1)
      writer.text(text)
    case .sequence(let elements):
      writer.number(2)
      writer.list(elements) { $1.write(to: &$0) }
    case .mapping(let members):
      writer.number(3)
      writer.list(members) { writer, member in
        member.key.write(to: &writer)
        member.value.write(to: &writer)
      }
    }
  }

  fileprivate init?(from reader: inout ByteReader, file: String, depth: Int) {
    guard depth <= 64, let line = reader.number(), let column = reader.number(), let length = reader.number(),
      let kind = reader.number()
    else { return nil }
    place = line > 0 ? SourceLocation(file: file, line: line, column: column, length: length) : nil
    switch kind {
    case 0, 1:
      guard let text = reader.text() else { return nil }
      content = .scalar(text, plain: kind == 0)
    case 2:
      guard let elements = reader.list({ DocumentNode(from: &$0, file: file, depth: depth + 1) }) else {
        return nil
      }
      content = .sequence(elements)
    case 3:
      let members = reader.list { reader -> Member? in
        guard let key = DocumentNode(from: &reader, file: file, depth: depth + 1),
          let value = DocumentNode(from: &reader, file: file, depth: depth + 1)
        else { return nil }
        return Member(key: key, value: value)
      }
      guard let members else { return nil }
      content = .mapping(members)
    default: return nil
    }
  }
}
