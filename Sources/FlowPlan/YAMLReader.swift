import FlowCore
import Yams

/// Reads one YAML text with places, and collects every mistake on the way.
struct YAMLReader {
  let file: String
  private let lines: [Substring]
  var problems: [Diagnostic] = []
  private(set) var root: Node?

  /// Limits that keep a hostile file cheap.
  private static let maxBytes = 1 << 20
  private static let maxAliases = 32
  private static let maxDepth = 64

  init(file: String, text: String) {
    self.file = file
    lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard text.utf8.count <= YAMLReader.maxBytes else {
      fail("E003", "\(file) is larger than 1 MiB", nil,
        help: "keep data out of pipelines; a source names a folder")
      return
    }
    let aliases = text.matches(of: #/(?:^|[\s\[,{:\-])\*[A-Za-z0-9_]/#).count
    guard aliases <= YAMLReader.maxAliases else {
      fail("E004", "\(aliases) aliases; more than \(YAMLReader.maxAliases) can expand without bound", nil)
      return
    }
    do {
      root = try Yams.compose(yaml: text)
      if let root, depth(root) > YAMLReader.maxDepth {
        self.root = nil
        fail("E004", "nested deeper than \(YAMLReader.maxDepth) levels", nil)
      }
    } catch let error as YamlError {
      problems.append(diagnostic(error))
    } catch {
      fail("E001", "not YAML: \(error)", nil)
    }
    if root == nil, problems.isEmpty { fail("E002", "\(file) is empty", nil) }
  }

  private func depth(_ node: Node) -> Int {
    switch node {
    case .mapping(let mapping): 1 + (mapping.map { depth($0.value) }.max() ?? 0)
    case .sequence(let sequence): 1 + (sequence.map(depth).max() ?? 0)
    default: 1
    }
  }

  private func diagnostic(_ error: YamlError) -> Diagnostic {
    func at(_ mark: Mark) -> SourceLocation {
      SourceLocation(file: file, line: mark.line, column: mark.column)
    }
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return Diagnostic(
        code: "E001", "not valid YAML: \(problem)", at: at(mark), sourceLine: line(mark.line), label: "here",
        help: "mind indentation (blanks, no tabs), quotes, and a blank after ':'")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let key = duplicates.first ?? ""
      let matches = lines.indices.filter {
        $0 + 1 >= context.mark.line && lines[$0].trimmingPrefix(while: { $0 == " " }).hasPrefix(key + ":")
      }
      let place = (matches.dropFirst().first ?? matches.first ?? context.mark.line - 1) + 1
      let column =
        (lines[place - 1].firstIndex { $0 != " " }.map {
          lines[place - 1].distance(from: lines[place - 1].startIndex, to: $0)
        } ?? 0) + 1
      return Diagnostic(
        code: "E010", "the key '\(key)' occurs twice in one mapping",
        at: SourceLocation(file: file, line: place, column: column, length: max(1, key.count)),
        sourceLine: line(place),
        label: "already given at line \((matches.first ?? 0) + 1)", help: "remove one of the two")
    default:
      return Diagnostic(
        code: "E001", "not valid YAML: \(error)", at: SourceLocation(file: file, line: 1, column: 1))
    }
  }

  func line(_ number: Int) -> String? {
    lines.indices.contains(number - 1) ? String(lines[number - 1]) : nil
  }

  /// Where `node` stands; a node without a mark was given by `--set`.
  func location(_ node: Node?) -> SourceLocation? {
    guard let node else { return nil }
    guard let mark = node.mark else { return SourceLocation(file: "--set", line: 1, column: 1) }
    return SourceLocation(
      file: file, line: mark.line, column: mark.column, length: max(1, node.scalar?.string.count ?? 1))
  }

  mutating func fail(
    _ code: String, _ message: String, _ node: Node?, label: String? = nil, help: String? = nil
  ) {
    let place = location(node)
    let source = place.flatMap { $0.file == file ? line($0.line) : nil }
    problems.append(Diagnostic(code: code, message, at: place, sourceLine: source, label: label, help: help))
  }

  /// The members of a mapping, in order, keys checked against `allowed` (`nil`: any).
  mutating func members(_ node: Node?, of what: String, allowed: [String]?, elsewhere: [String: String] = [:])
    -> [(key: String, keyNode: Node, value: Node)]
  {
    guard let node else { return [] }
    guard let mapping = node.mapping else {
      if node.scalar?.string.isEmpty ?? false { return [] }
      fail("E013", "\(what) must be a mapping of names to values", node, label: "this is not a mapping")
      return []
    }
    var result: [(key: String, keyNode: Node, value: Node)] = []
    for (key, value) in mapping {
      guard let name = key.scalar?.string else {
        fail("E013", "a key of \(what) must be a plain name", key)
        continue
      }
      if let allowed, !allowed.contains(name) {
        let hint =
          elsewhere[name].map { "it belongs \($0)" } ?? DidYouMean.hint(name, among: allowed, what: "key")
        fail("E011", "unknown key '\(name)' in \(what)", key, label: hint, help: "nothing was run")
        continue
      }
      result.append((name, key, value))
    }
    return result
  }

  /// A text value.
  mutating func text(_ node: Node?, _ what: String) -> String? {
    guard let node else { return nil }
    guard let scalar = node.scalar else {
      fail("E013", "\(what) must be text", node)
      return nil
    }
    return scalar.string
  }

  /// A scalar, a list or a flow mapping as JSON, typed by YAML 1.2's core schema: `true`, `12`, `1.5`, `~`; all else text.
  static func value(_ node: Node) -> JSON {
    switch node {
    case .scalar(let scalar):
      guard scalar.style == .plain || scalar.style == .any else { return .string(scalar.string) }
      let text = scalar.string
      if ["", "~", "null"].contains(text) { return .null }
      if text == "true" { return .bool(true) }
      if text == "false" { return .bool(false) }
      if text.wholeMatch(of: #/[-+]?(0|[1-9][0-9]*)/#) != nil, let int = Int(text) { return .int(int) }
      if text.wholeMatch(of: #/[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?/#) != nil,
        !text.hasPrefix("0") || text.hasPrefix("0.") || text.hasPrefix("0e"),
        let double = Double(text)
      {
        return .double(double)
      }
      return .string(text)
    case .sequence(let sequence): return .array(sequence.map(value))
    case .mapping(let mapping):
      var members: [String: JSON] = [:]
      for (key, child) in mapping { if let name = key.scalar?.string { members[name] = value(child) } }
      return .object(members)
    default: return .null
    }
  }
}
