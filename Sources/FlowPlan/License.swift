import FlowCore

/// A licence expression of SPDX 2.3: `CC-BY-4.0`, `MIT OR Apache-2.0`, `GPL-2.0-or-later WITH Classpath-exception-2.0`.
public indirect enum LicenseExpression: Sendable, Hashable, CustomStringConvertible {
  /// One licence: its SPDX name (or `LicenseRef-…`), whether later versions will do (`+`), and its exception.
  case license(String, orLater: Bool, exception: String?)
  /// All of these hold.
  case all([LicenseExpression])
  /// One of these may be chosen.
  case any([LicenseExpression])

  /// SPDX's word where nobody has said anything.
  public static let unsaid = "NOASSERTION"

  /// Why a text is no expression: what is wrong, and what may have been meant.
  public struct Mistake: Error, Sendable, Hashable {
    /// What is wrong.
    public var message: String
    /// What may have been meant.
    public var hint: String?
  }

  /// Reads an expression; names are found whatever their case.
  /// - Throws: `Mistake`.
  public init(_ text: String) throws(Mistake) {
    var parser = Parser(text)
    self = try parser.whole()
  }

  /// The expression with SPDX's spelling of names and no more brackets than it needs.
  public var description: String {
    switch self {
    case .license(let name, let orLater, let exception):
      return name + (orLater ? "+" : "") + (exception.map { " WITH \($0)" } ?? "")
    case .all(let parts):
      return parts.map { part in
        if case .any = part { "(\(part))" } else { "\(part)" }
      }.joined(separator: " AND ")
    case .any(let parts): return parts.map(\.description).joined(separator: " OR ")
    }
  }

  /// That of a work made of works under `parts`: all of them hold. Each once, sorted; `NOASSERTION` for none.
  public static func joined(_ parts: [LicenseExpression]) -> LicenseExpression {
    var flat: Set<LicenseExpression> = []
    for part in parts {
      if case .all(let inner) = part { flat.formUnion(inner) } else { flat.insert(part) }
    }
    let sorted = flat.sorted { $0.description < $1.description }
    if sorted.count > 1 { return .all(sorted) }
    return sorted.first ?? .license(unsaid, orLater: false, exception: nil)
  }

  /// The licences for which a work under this expression is refused when only `allow` is listed; none when it may be used.
  /// An exception gives more than its licence, so that the licence being listed is enough.
  public func refused(allow: Set<String>) -> [String] {
    switch self {
    case .license(let name, _, _):
      return allow.contains(description) || allow.contains(name) ? [] : [description]
    case .all(let parts): return parts.flatMap { $0.refused(allow: allow) }
    case .any(let parts):
      let all = parts.map { $0.refused(allow: allow) }
      return all.contains([]) ? [] : all.flatMap { $0 }
    }
  }

  /// Reads words and brackets: `OR` binds less than `AND`, `AND` less than `WITH`.
  private struct Parser {
    private var words: [String] = []
    private var depth = 0
    private var isTooLong = false

    init(_ text: String) {
      guard text.utf8.count <= 2000 else {
        isTooLong = true
        return
      }
      var word = ""
      for character in text {
        switch character {
        case "(", ")", " ", "\t":
          if !word.isEmpty { words.append(word) }
          word = ""
          if character == "(" || character == ")" { words.append(String(character)) }
        default: word.append(character)
        }
      }
      if !word.isEmpty { words.append(word) }
      words.reverse()
    }

    mutating func whole() throws(Mistake) -> LicenseExpression {
      if isTooLong { throw Mistake(message: "it has more than 2000 characters") }
      let result = try alternatives()
      if let word = words.last {
        throw Mistake(
          message: "'\(word)' is not expected there",
          hint: Parser.isOperator(word.uppercased())
            ? "write \(word.uppercased())" : "join licences with AND or OR")
      }
      return result
    }

    private mutating func alternatives() throws(Mistake) -> LicenseExpression {
      var parts = [try conjunction()]
      while words.last == "OR" {
        words.removeLast()
        parts.append(try conjunction())
      }
      return parts.count == 1 ? parts[0] : .any(parts)
    }

    private mutating func conjunction() throws(Mistake) -> LicenseExpression {
      var parts = [try one()]
      while words.last == "AND" {
        words.removeLast()
        parts.append(try one())
      }
      return parts.count == 1 ? parts[0] : .all(parts)
    }

    private mutating func one() throws(Mistake) -> LicenseExpression {
      guard let word = words.popLast(), word != ")", !Parser.isOperator(word) else {
        throw Mistake(message: "a licence is missing", hint: "such as CC0-1.0 or 'MIT OR Apache-2.0'")
      }
      if word == "(" {
        depth += 1
        guard depth <= 32 else { throw Mistake(message: "brackets nest more than 32 deep") }
        let inner = try alternatives()
        guard words.popLast() == ")" else { throw Mistake(message: "a ')' is missing") }
        depth -= 1
        return inner
      }
      let (name, orLater) = try Parser.license(word)
      guard words.last == "WITH" else { return .license(name, orLater: orLater, exception: nil) }
      words.removeLast()
      let exception = words.popLast() ?? ""
      guard let known = LicenseTable.exceptions[exception.lowercased()] else {
        throw Mistake(
          message: "there is no SPDX exception '\(exception)'",
          hint: DidYouMean.nearest(exception, among: LicenseTable.exceptions.values).map {
            "did you mean '\($0)'?"
          })
      }
      return .license(name, orLater: orLater, exception: known)
    }

    private static func isOperator(_ word: String) -> Bool { ["AND", "OR", "WITH"].contains(word) }

    private static func license(_ word: String) throws(Mistake) -> (String, orLater: Bool) {
      if word == unsaid || word == "NONE" { return (word, false) }
      let parts = word.split(separator: ":", omittingEmptySubsequences: false)
      if let own = parts.last, own.hasPrefix("LicenseRef-"), parts.count <= 2 {
        let names = [own.dropFirst(11)] + (parts.count == 2 ? [parts[0].dropFirst(12)] : [])
        let isWell = names.allSatisfy { name in
          !name.isEmpty && name.utf8.allSatisfy { $0 == 45 || $0 == 46 || isAlphanumeric($0) }
        }
        if isWell, parts.count == 1 || parts[0].hasPrefix("DocumentRef-") { return (word, false) }
        throw Mistake(
          message: "'\(word)' is no name", hint: "after LicenseRef- come letters, digits, '-' and '.'")
      }
      let base = word.hasSuffix("+") ? String(word.dropLast()) : word
      if let known = LicenseTable.licenses[base.lowercased()] { return (known, word.hasSuffix("+")) }
      throw Mistake(message: "there is no SPDX licence '\(word)'", hint: hint(base))
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
      (byte >= 48 && byte <= 57) || (byte | 32 >= 97 && byte | 32 <= 122)
    }

    private static func hint(_ word: String) -> String {
      let longer = LicenseTable.licenses.filter { $0.key.hasPrefix(word.lowercased()) }.values.sorted()
      if !longer.isEmpty, !word.isEmpty {
        return "did you mean \(longer.prefix(3).map { "'\($0)'" }.joined(separator: " or "))?"
      }
      if let near = DidYouMean.nearest(word, among: LicenseTable.licenses.values) {
        return "did you mean '\(near)'?"
      }
      return "names are those of spdx.org/licenses; one of your own is LicenseRef-NAME"
    }
  }
}

/// What may go into what a gated stage makes.
public struct LicensePolicy: Sendable, Hashable {
  /// The licences that are listed; all others are refused.
  public var allow: Set<String>

  /// A policy; nothing is allowed unless said.
  public init(allow: Set<String> = []) { self.allow = allow }
}

extension Resolver {
  /// Reads an expression that stands at `node`, in SPDX's spelling.
  mutating func license(_ text: String, _ node: DocumentNode) -> String? {
    do { return try LicenseExpression(text).description } catch {
      reader.fail(
        "E029", "'\(text.prefix(80))' is no licence expression: \(error.message)", node, label: error.hint)
      return nil
    }
  }

  /// Reads `licenses: { allow: [...] }`.
  mutating func licenses(_ node: DocumentNode?) -> LicensePolicy {
    var policy = LicensePolicy()
    for (_, _, value) in reader.members(node, of: "licenses", allowed: ["allow"]) {
      guard let elements = value.elements ?? (value.text == nil ? nil : [value]) else {
        reader.fail("E014", "'allow' must be a list of licences", value, help: "allow: [CC0-1.0, CC-BY-4.0]")
        continue
      }
      for element in elements {
        guard let text = element.text, let license = license(text, element) else {
          if element.text == nil { reader.fail("E014", "'allow' must be a list of licences", element) }
          continue
        }
        if case .license? = try? LicenseExpression(license) {
          policy.allow.insert(license)
        } else {
          reader.fail("E029", "'allow' lists licences, not expressions", element, label: "one entry for each")
        }
      }
    }
    return policy
  }
}
