import FlowCore
import Yams

/// A value of a YAML document, with the place where it stands.
struct DocumentNode: Sendable {
  /// A key and its value.
  struct Member: Sendable {
    var key: DocumentNode
    var value: DocumentNode
    /// The key's text.
    var name: String { key.text ?? "" }
  }

  indirect enum Content: Sendable {
    case scalar(String, plain: Bool)
    case sequence([DocumentNode])
    case mapping([Member])
  }

  var content: Content
  /// `nil` when it was given by `--set`.
  var place: SourceLocation?

  /// A scalar's text.
  var text: String? { if case .scalar(let text, _) = content { text } else { nil } }
  /// A sequence's elements.
  var elements: [DocumentNode]? { if case .sequence(let elements) = content { elements } else { nil } }
  /// A mapping's members, in order.
  var members: [Member]? { if case .mapping(let members) = content { members } else { nil } }
  /// The value of a mapping's member.
  subscript(key: String) -> DocumentNode? { members?.first { $0.name == key }?.value }

  /// As JSON, typed by YAML 1.2's core schema: `true`, `12`, `1.5`, `~`; all else text.
  var json: JSON {
    switch content {
    case .scalar(let text, plain: false): .string(text)
    case .scalar(let text, plain: true):
      switch text {
      case "", "~", "null": .null
      case "true": .bool(true)
      case "false": .bool(false)
      default: DocumentNode.number(text) ?? .string(text)
      }
    case .sequence(let elements): .array(elements.map(\.json))
    case .mapping(let members):
      .object(Dictionary(members.map { ($0.name, $0.value.json) }, uniquingKeysWith: { $1 }))
    }
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }

  // Scanned by hand: a regular expression is compiled each time it is met, which shows with a thousand stages.
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
}

/// A parsed text: its tree, its lines for messages, what is wrong with it.
struct Document {
  let file: String
  private let text: String
  private(set) var root: DocumentNode?
  private(set) var problems: [Diagnostic] = []

  /// Limits that keep a hostile file cheap.
  static let maxBytes = 1 << 20
  private static let maxMarks = 30_000
  private static let maxAliases = 16
  private static let maxDepth = 64
  private static let maxNodes = 50_000

  /// - Parameter parsed: where trees of texts are kept; the limits were checked when they were made.
  init(file: String, text: String, parsed: ParsedTexts? = nil) {
    self.file = file
    // A byte order mark is no part of the text.
    let text = text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
    self.text = text
    if let root = parsed?.find(text, file: file) {
      self.root = root
      return
    }
    guard text.utf8.count <= Document.maxBytes else {
      fail(
        "E003", "\(file) is larger than 1 MiB", help: "keep data out of pipelines; a source names a folder")
      return
    }
    // Parsing costs time and memory by the value, so a text of very many is not parsed at all.
    guard text.utf8.count(where: { $0 == 0x0A || $0 == 0x2C }) <= Document.maxMarks else {
      fail(
        "E004", "more than \(Document.maxMarks) lines and commas",
        help: "keep data out of pipelines: name a file")
      return
    }
    // Only names that an anchor defines count, so that *emphasis* in a text doesn't. Few aliases bound the expansion by
    // a small factor (at most 3^5 of 16), which keeps composing cheap; the nodes are counted afterwards.
    let anchors = Set(Document.names(after: UInt8(ascii: "&"), in: text))
    let aliases =
      anchors.isEmpty ? 0 : Document.names(after: UInt8(ascii: "*"), in: text).count(where: anchors.contains)
    guard aliases <= Document.maxAliases else {
      fail("E004", "\(aliases) aliases; more than \(Document.maxAliases) can expand without bound")
      return
    }
    do {
      // Without rules for tags: what a scalar means is decided here, not by regular expressions for each.
      var nodes = 0
      if let node = try Yams.compose(yaml: text, .basic) {
        root = convert(node, depth: 1, &nodes)
        if root == nil {
          let limits =
            "more than \(Document.maxNodes) values or \(Document.maxDepth) levels, aliases expanded"
          fail("E004", limits, help: "write fewer or flatter values")
        }
      }
    } catch let error as YamlError {
      problems.append(diagnostic(error))
    } catch {
      fail("E001", "not YAML: \(error)")
    }
    if let root, problems.isEmpty { parsed?.keep(root, of: text) }
    if root == nil, problems.isEmpty { fail("E002", "\(file) is empty") }
  }

  /// Only asked for when something is wrong.
  private var lines: [Substring] {
    text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }
  }

  func line(_ number: Int) -> String? {
    let lines = lines
    // Nobody reads a line of a thousand characters to find the mark below it.
    guard lines.indices.contains(number - 1), lines[number - 1].utf8.count <= 1000 else { return nil }
    return String(lines[number - 1])
  }

  private mutating func fail(_ code: String, _ message: String, help: String? = nil) {
    problems.append(Diagnostic(code: code, message, help: help))
  }

  /// The names that follow `mark` in the text.
  private static func names(after mark: UInt8, in text: String) -> [String] {
    guard text.utf8.contains(mark) else { return [] }
    return text.utf8.split(separator: mark, omittingEmptySubsequences: false).dropFirst().compactMap { part in
      let name = part.prefix { byte in
        (byte >= 48 && byte <= 57) || (byte | 32 >= UInt8(ascii: "a") && byte | 32 <= UInt8(ascii: "z"))
          || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
      }
      return name.isEmpty ? nil : String(name)
    }
  }

  /// `nil` past the limits; stops there, so a bomb is not walked.
  private func convert(_ node: Node, depth: Int, _ nodes: inout Int) -> DocumentNode? {
    nodes += 1
    guard depth <= Document.maxDepth, nodes <= Document.maxNodes else { return nil }
    var place: SourceLocation?
    if let mark = node.mark {
      place = SourceLocation(
        file: file, line: mark.line, column: mark.column, length: max(1, node.scalar?.string.count ?? 1))
    }
    switch node {
    case .scalar(let scalar):
      let plain = scalar.style == .plain || scalar.style == .any
      return DocumentNode(content: .scalar(scalar.string, plain: plain), place: place)
    case .sequence(let sequence):
      var elements: [DocumentNode] = []
      for element in sequence {
        guard let converted = convert(element, depth: depth + 1, &nodes) else { return nil }
        elements.append(converted)
      }
      return DocumentNode(content: .sequence(elements), place: place)
    case .mapping(let mapping):
      var members: [DocumentNode.Member] = []
      for (key, value) in mapping {
        guard let name = convert(key, depth: depth + 1, &nodes),
          let converted = convert(value, depth: depth + 1, &nodes)
        else { return nil }
        members.append(DocumentNode.Member(key: name, value: converted))
      }
      return DocumentNode(content: .mapping(members), place: place)
    case .alias: return DocumentNode(content: .scalar("", plain: true), place: place)
    }
  }

  private func diagnostic(_ error: YamlError) -> Diagnostic {
    switch error {
    case .scanner(_, let problem, let mark, _) where problem.hasPrefix("Maximum nesting"),
      .parser(_, let problem, let mark, _) where problem.hasPrefix("Maximum nesting"):
      return Diagnostic(
        code: "E004", "more than \(Document.maxDepth) levels",
        at: SourceLocation(file: file, line: mark.line, column: mark.column), sourceLine: line(mark.line),
        help: "write fewer or flatter values")
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return Diagnostic(
        code: "E001", "not valid YAML: \(problem)",
        at: SourceLocation(file: file, line: mark.line, column: mark.column), sourceLine: line(mark.line),
        label: "here", help: "mind indentation (blanks, no tabs), quotes, and a blank after ':'")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let key = duplicates.first ?? ""
      let lines = lines
      let matches = lines.indices.filter {
        $0 + 1 >= context.mark.line && lines[$0].trimmingPrefix(while: { $0 == " " }).hasPrefix(key + ":")
      }
      let place = (matches.dropFirst().first ?? matches.first ?? context.mark.line - 1) + 1
      let text = lines.indices.contains(place - 1) ? lines[place - 1] : ""
      let column =
        (text.firstIndex { $0 != " " }.map { text.distance(from: text.startIndex, to: $0) } ?? 0) + 1
      return Diagnostic(
        code: "E010", "the key '\(key)' occurs twice in one mapping",
        at: SourceLocation(file: file, line: place, column: column, length: max(1, key.count)),
        sourceLine: line(place), label: "already given at line \((matches.first ?? 0) + 1)",
        help: "remove one of the two")
    default:
      return Diagnostic(
        code: "E001", "not valid YAML: \(error)", at: SourceLocation(file: file, line: 1, column: 1))
    }
  }
}
