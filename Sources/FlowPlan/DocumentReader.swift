import FlowCore

/// Reads a document's values and collects every mistake on the way, with its place.
struct DocumentReader {
  /// The document's file, as the user named it.
  let file: String
  private var documents: [String: Document]
  /// The mistakes so far.
  var problems: [Diagnostic] = []
  /// The tree; `nil` when the text is none.
  let root: DocumentNode?
  /// Where trees of texts are kept.
  let parsed: ParsedTexts?

  init(file: String, text: String, parsed: ParsedTexts? = nil) {
    self.init(Document(file: file, text: text, parsed: parsed), parsed: parsed)
  }

  init(_ document: Document, parsed: ParsedTexts? = nil) {
    self.parsed = parsed
    file = document.file
    documents = [document.file: document]
    root = document.root
    problems = document.problems
  }

  /// Takes a document that this one extends, for its lines and mistakes.
  mutating func add(_ document: Document) {
    guard documents.updateValue(document, forKey: document.file) == nil else { return }
    problems += document.problems
  }

  mutating func fail(
    _ code: String, _ message: String, _ node: DocumentNode?, label: String? = nil, help: String? = nil
  ) {
    fail(code, message, at: location(node), label: label, help: help)
  }

  mutating func fail(
    _ code: String, _ message: String, at place: SourceLocation?, label: String? = nil, help: String? = nil
  ) {
    let source = place.flatMap { documents[$0.file]?.line($0.line) }
    problems.append(Diagnostic(code: code, message, at: place, sourceLine: source, label: label, help: help))
  }

  /// Where `node` stands.
  func location(_ node: DocumentNode?) -> SourceLocation? {
    guard let node else { return nil }
    return node.place ?? SourceLocation(file: "--set", line: 1, column: 1)
  }

  /// The members of a mapping, in order, keys checked against `allowed` (`nil`: any).
  mutating func members(
    _ node: DocumentNode?, of what: @autoclosure () -> String, allowed: [String]?,
    elsewhere: (String) -> String? = { _ in nil }
  ) -> [(key: String, keyNode: DocumentNode, value: DocumentNode)] {
    guard let node else { return [] }
    guard let members = node.members else {
      if node.json == .null { return [] }
      fail("E013", "\(what()) must be a mapping of names to values", node, label: "this is not a mapping")
      return []
    }
    var result: [(key: String, keyNode: DocumentNode, value: DocumentNode)] = []
    result.reserveCapacity(members.count)
    for member in members {
      guard let name = member.key.text else {
        fail("E013", "a key of \(what()) must be a plain name", member.key)
        continue
      }
      if let allowed, !allowed.contains(name) {
        let hint =
          elsewhere(name).map { "it belongs \($0)" } ?? DidYouMean.hint(name, among: allowed, what: "key")
        fail("E011", "unknown key '\(name)' in \(what())", member.key, label: hint, help: "nothing was run")
        continue
      }
      result.append((name, member.key, member.value))
    }
    return result
  }

  /// Whether `name` can name a folder or a column of a lock file; says so when it can't.
  mutating func checkName(_ name: String, _ what: String, _ node: DocumentNode?) {
    if DocumentReader.isName(name.utf8) { return }
    fail(
      "E019", "'\(name)' can't name \(what)", node,
      label: "letters, digits, '-', '_' and single dots, 64 at most, a letter or digit first")
  }

  private static func isName(_ name: String.UTF8View) -> Bool {
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      (byte >= 48 && byte <= 57) || (byte | 32 >= UInt8(ascii: "a") && byte | 32 <= UInt8(ascii: "z"))
    }
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

  /// A text value.
  mutating func text(_ node: DocumentNode?, _ what: @autoclosure () -> String) -> String? {
    guard let node else { return nil }
    guard let text = node.text else {
      fail("E013", "\(what()) must be text", node)
      return nil
    }
    return text
  }

  /// `true` or `false`.
  mutating func flag(_ node: DocumentNode, _ what: String) -> Bool {
    if case .bool(let value) = node.json { return value }
    fail("E014", "\(what) must be true or false", node)
    return false
  }

  /// A whole number, however it is written: 12, 12.0, 1.2e1.
  static func whole(_ value: JSON) -> Int? {
    switch value {
    case .int(let value): value
    case .double(let value): Int(exactly: value)
    default: nil
    }
  }

  /// A number, if one is given.
  mutating func number(_ node: DocumentNode?, _ what: String) -> Double? {
    guard let node else { return nil }
    if let value = node.json.number { return value }
    fail("E014", "\(what) must be a number", node)
    return nil
  }

  /// A list of texts (or one text), if given.
  mutating func strings(_ node: DocumentNode?, _ what: String) -> [String] {
    guard let node else { return [] }
    guard let elements = node.elements, elements.allSatisfy({ $0.text != nil }) else {
      fail("E014", "\(what) must be a list of texts", node)
      return []
    }
    return elements.compactMap(\.text)
  }

  /// One of `values`, `standard` when it is none of them.
  mutating func choice<T: RawRepresentable & CaseIterable>(
    _ node: DocumentNode?, _ key: String, _ standard: T
  ) -> T
  where T.RawValue == String {
    guard let node, let text = text(node, "'\(key)'") else { return standard }
    if let value = T(rawValue: text) { return value }
    fail(
      "E014", "'\(key)' can't be '\(text)'", node,
      label: DidYouMean.hint(text, among: T.allCases.map(\.rawValue), what: "value"))
    return standard
  }

  /// A time such as `90`, `90s`, `15min`, `2h`, in seconds.
  mutating func seconds(_ node: DocumentNode, _ what: String) -> Double? {
    if let number = node.json.number, number > 0 { return number }
    let units: [(String, Double)] = [("min", 60), ("ms", 0.001), ("s", 1), ("h", 3600), ("d", 86_400)]
    if let text = node.text {
      for (unit, factor) in units where text.hasSuffix(unit) {
        let digits = text.dropLast(unit.count)
        let isPlain = digits.allSatisfy { $0 == "." || $0.isASCII && $0.isNumber }
        if isPlain, let value = Double(digits), value > 0, value.isFinite { return value * factor }
        break
      }
    }
    fail("E014", "\(what) must be a time such as 90s, 15min or 2h", node)
    return nil
  }
}
