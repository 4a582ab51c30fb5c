import Foundation

/// A JSON value whose integers and floats stay apart, with a canonical encoding that can be hashed.
public enum JSON: Hashable, Sendable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case array([JSON])
  case object([String: JSON])

  /// The member `key` of an object; `nil` when this isn't one or has none.
  public subscript(key: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members[key]
  }

  /// The number, if it is one.
  public var number: Double? {
    switch self {
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  /// The text, if it is one.
  public var text: String? {
    guard case .string(let value) = self else { return nil }
    return value
  }

  /// Canonical text: no blanks, keys sorted by their UTF-8 bytes, shortest round-trip floats, `-0` as `0.0`.
  /// Floats always carry a point or exponent, so `1` and `1.0` differ. Not-a-number and infinities, which JSON
  /// lacks, are written as the strings "NaN", "Infinity", "-Infinity".
  public var canonical: String {
    var text = ""
    write(to: &text, indent: nil, depth: 0)
    return text
  }

  /// The same with line breaks and two-space indents, for people.
  public var pretty: String {
    var text = ""
    write(to: &text, indent: 2, depth: 0)
    return text
  }

  private func write(to text: inout String, indent: Int?, depth: Int) {
    func newline(_ depth: Int) {
      guard let indent else { return }
      text += "\n" + String(repeating: " ", count: indent * depth)
    }
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .int(let value): text += String(value)
    case .double(let value):
      if value.isNaN {
        text += "\"NaN\""
      } else if value.isInfinite {
        text += value < 0 ? "\"-Infinity\"" : "\"Infinity\""
      } else {
        text += value == 0 ? "0.0" : "\(value)"
      }
    case .string(let value): JSON.quote(value, to: &text)
    case .array(let values):
      text += "["
      for (index, value) in values.enumerated() {
        if index > 0 { text += "," }
        newline(depth + 1)
        value.write(to: &text, indent: indent, depth: depth + 1)
      }
      if !values.isEmpty { newline(depth) }
      text += "]"
    case .object(let members):
      text += "{"
      let sorted = members.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      for (index, member) in sorted.enumerated() {
        if index > 0 { text += "," }
        newline(depth + 1)
        JSON.quote(member.key, to: &text)
        text += indent == nil ? ":" : ": "
        member.value.write(to: &text, indent: indent, depth: depth + 1)
      }
      if !members.isEmpty { newline(depth) }
      text += "}"
    }
  }

  private static func quote(_ value: String, to text: inout String) {
    text += "\""
    // Most texts have nothing to escape, and are appended whole.
    if value.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
      text += value
      text += "\""
      return
    }
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.value < 0x20:
        let hex = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }

  /// Parses JSON text (RFC 8259, UTF-8); `1` and `1.0` stay apart.
  /// - Throws: `DecodingError` when it isn't JSON.
  public init(parsing bytes: some Sequence<UInt8>) throws {
    var parser = JSONParser(bytes)
    self = try parser.parse()
  }

  /// Decodes a value of `type` from this.
  /// - Throws: `DecodingError` when the shape differs.
  public func decode<T: Decodable>(_ type: T.Type) throws -> T {
    try JSONDecoder().decode(type, from: Data(canonical.utf8))
  }

  /// The JSON of an encodable value. It goes through Foundation, which writes a whole float without its point: such a
  /// `Double` comes out as `.int`.
  /// - Throws: `EncodingError` when it can't be said in JSON.
  public init(encoding value: some Encodable) throws {
    self = try JSON(parsing: JSONEncoder().encode(value))
  }
}

extension JSON: Codable {
  /// Reads the value as itself, without a wrapper.
  public init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: Member.self) {
      var members: [String: JSON] = [:]
      for key in container.allKeys { members[key.stringValue] = try container.decode(JSON.self, forKey: key) }
      self = .object(members)
    } else if var container = try? decoder.unkeyedContainer() {
      var values: [JSON] = []
      while !container.isAtEnd { values.append(try container.decode(JSON.self)) }
      self = .array(values)
    } else {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .null
      } else if let value = try? container.decode(Bool.self) {
        self = .bool(value)
      } else if let value = try? container.decode(Int.self) {
        self = .int(value)
      } else if let value = try? container.decode(Double.self) {
        self = .double(value)
      } else {
        self = .string(try container.decode(String.self))
      }
    }
  }

  /// Writes the value as itself, without a wrapper.
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .object(let members):
      var container = encoder.container(keyedBy: Member.self)
      for (key, value) in members { try container.encode(value, forKey: Member(stringValue: key)) }
    case .array(let values):
      var container = encoder.unkeyedContainer()
      for value in values { try container.encode(value) }
    default:
      var container = encoder.singleValueContainer()
      switch self {
      case .bool(let value): try container.encode(value)
      case .int(let value): try container.encode(value)
      case .double(let value): try container.encode(value)
      case .string(let value): try container.encode(value)
      default: try container.encodeNil()
      }
    }
  }

  private struct Member: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A text.
  public init(stringLiteral value: String) { self = .string(value) }
  /// A whole number.
  public init(integerLiteral value: Int) { self = .int(value) }
  /// A number.
  public init(floatLiteral value: Double) { self = .double(value) }
  /// A truth value.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// A list.
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  /// Keys are texts.
  public typealias Key = String
  /// Members are values.
  public typealias Value = JSON
  /// An object; of equal keys the last counts.
  public init(dictionaryLiteral elements: (String, JSON)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { $1 }))
  }
}
