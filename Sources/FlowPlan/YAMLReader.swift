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
  private static let maxAliases = 16
  private static let maxDepth = 64
  private static let maxNodes = 50_000

  init(file: String, text: String) {
    self.file = file
    // A byte order mark is no part of the text.
    let text = text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
    lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }
    guard text.utf8.count <= YAMLReader.maxBytes else {
      fail(
        "E003", "\(file) is larger than 1 MiB", nil,
        help: "keep data out of pipelines; a source names a folder")
      return
    }
    // Only names that an anchor defines count, so that *emphasis* in a text doesn't. Few aliases bound the expansion by
    // a small factor (at most 3^5 of 16), which keeps composing cheap; the nodes are counted afterwards.
    let anchors = Set(YAMLReader.names(after: UInt8(ascii: "&"), in: text))
    let aliases =
      anchors.isEmpty
      ? 0 : YAMLReader.names(after: UInt8(ascii: "*"), in: text).count(where: anchors.contains)
    guard aliases <= YAMLReader.maxAliases else {
      fail("E004", "\(aliases) aliases; more than \(YAMLReader.maxAliases) can expand without bound", nil)
      return
    }
    do {
      root = try Yams.compose(yaml: text)
      var nodes = 0
      if let root, !isSmall(root, depth: 1, &nodes) {
        self.root = nil
        let limits =
          "more than \(YAMLReader.maxNodes) values or \(YAMLReader.maxDepth) levels, aliases expanded"
        fail("E004", limits, nil, help: "write fewer or flatter values")
      }
    } catch let error as YamlError {
      problems.append(diagnostic(error))
    } catch {
      fail("E001", "not YAML: \(error)", nil)
    }
    if root == nil, problems.isEmpty { fail("E002", "\(file) is empty", nil) }
  }

  /// The names that follow `mark` in the text.
  private static func names(after mark: UInt8, in text: String) -> [String] {
    guard text.utf8.contains(mark) else { return [] }
    return text.utf8.split(separator: mark, omittingEmptySubsequences: false).dropFirst().compactMap { part in
      let name = part.prefix { isAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
      return name.isEmpty ? nil : String(name)
    }
  }

  /// Whether the tree keeps to the limits; stops at the first node that doesn't, so a bomb is not walked.
  private func isSmall(_ node: Node, depth: Int, _ nodes: inout Int) -> Bool {
    nodes += 1
    guard depth <= YAMLReader.maxDepth, nodes <= YAMLReader.maxNodes else { return false }
    switch node {
    case .mapping(let mapping):
      return mapping.allSatisfy {
        isSmall($0.key, depth: depth + 1, &nodes) && isSmall($0.value, depth: depth + 1, &nodes)
      }
    case .sequence(let sequence): return sequence.allSatisfy { isSmall($0, depth: depth + 1, &nodes) }
    default: return true
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

  /// Whether `name` can name a folder or a column of a lock file; says so when it can't.
  mutating func checkName(_ name: String, _ what: String, _ node: Node?) {
    if YAMLReader.isName(name.utf8) { return }
    fail(
      "E019", "'\(name)' can't name \(what)", node,
      label: "letters, digits, '-', '_' and single dots, 64 at most, a letter or digit first")
  }

  // Scanned by hand: a regular expression is compiled each time it is met, which shows with a thousand stages.
  private static func isName(_ name: String.UTF8View) -> Bool {
    guard let first = name.first, name.count <= 64, isAlphanumeric(first) else { return false }
    var previous: UInt8 = 0
    for byte in name {
      let isDot = byte == UInt8(ascii: ".")
      guard isAlphanumeric(byte) || isDot || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-") else {
        return false
      }
      if isDot, previous == byte { return false }
      previous = byte
    }
    return true
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    isDigit(byte) || (byte | 32 >= UInt8(ascii: "a") && byte | 32 <= UInt8(ascii: "z"))
  }

  /// A number as YAML 1.2's core schema writes it (no leading zeros, no `.inf`, no `.nan`); `nil` for other text.
  private static func number(_ text: String) -> JSON? {
    var rest = Array(text.utf8)[...]
    if let sign = rest.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { rest.removeFirst() }
    let whole = rest.prefix(while: isDigit)
    rest = rest.dropFirst(whole.count)
    var (fraction, exponent) = (0, 0)
    let hasPoint = rest.first == UInt8(ascii: ".")
    if hasPoint {
      rest.removeFirst()
      fraction = rest.prefix(while: isDigit).count
      rest = rest.dropFirst(fraction)
    }
    guard whole.count + fraction > 0, whole.count < 2 || whole.first != UInt8(ascii: "0") else { return nil }
    if let mark = rest.first, mark | 32 == UInt8(ascii: "e") {
      rest.removeFirst()
      if let sign = rest.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { rest.removeFirst() }
      exponent = rest.prefix(while: isDigit).count
      guard exponent > 0 else { return nil }
      rest = rest.dropFirst(exponent)
    }
    guard rest.isEmpty else { return nil }
    if !hasPoint, exponent == 0, let int = Int(text) { return .int(int) }
    return Double(text).flatMap { $0.isFinite ? .double($0) : nil }
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

  /// `true` or `false`.
  mutating func flag(_ node: Node, _ what: String) -> Bool {
    if case .bool(let value) = YAMLReader.value(node) { return value }
    fail("E014", "\(what) must be true or false", node)
    return false
  }

  /// A number, if one is given.
  mutating func number(_ node: Node?, _ what: String) -> Double? {
    guard let node else { return nil }
    if let value = YAMLReader.value(node).number { return value }
    fail("E014", "\(what) must be a number", node)
    return nil
  }

  /// A list of texts, if one is given.
  mutating func strings(_ node: Node?, _ what: String) -> [String] {
    guard let node else { return [] }
    guard let sequence = node.sequence, sequence.allSatisfy({ $0.scalar != nil }) else {
      fail("E014", "\(what) must be a list of texts", node)
      return []
    }
    return sequence.compactMap { $0.scalar?.string }
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
      return number(text) ?? .string(text)
    case .sequence(let sequence): return .array(sequence.map(value))
    case .mapping(let mapping):
      var members: [String: JSON] = [:]
      for (key, child) in mapping { if let name = key.scalar?.string { members[name] = value(child) } }
      return .object(members)
    default: return .null
    }
  }
}
