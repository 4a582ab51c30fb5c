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
  public var canonical: String { String(decoding: canonicalBytes, as: UTF8.self) }

  /// The bytes of `canonical`.
  public var canonicalBytes: [UInt8] {
    var text: [UInt8] = []
    write(to: &text, indent: nil, depth: 0)
    return text
  }

  /// The same with line breaks and two-space indents, for people.
  public var pretty: String {
    var text: [UInt8] = []
    write(to: &text, indent: 2, depth: 0)
    return String(decoding: text, as: UTF8.self)
  }

  // Into bytes: appending to a text costs four times as much, and every key is made of this.
  private func write(to text: inout [UInt8], indent: Int?, depth: Int) {
    func newline(_ depth: Int) {
      guard let indent else { return }
      text.append(0x0A)
      text.append(contentsOf: repeatElement(0x20, count: indent * depth))
    }
    switch self {
    case .null: text += "null".utf8
    case .bool(let value): text += (value ? "true" : "false").utf8
    case .int(let value): text += String(value).utf8
    case .double(let value):
      if value.isNaN {
        text += "\"NaN\"".utf8
      } else if value.isInfinite {
        text += (value < 0 ? "\"-Infinity\"" : "\"Infinity\"").utf8
      } else {
        text += (value == 0 ? "0.0" : value.description).utf8
      }
    case .string(let value): JSON.quote(value, to: &text)
    case .array(let values):
      text.append(UInt8(ascii: "["))
      for index in values.indices {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        newline(depth + 1)
        values[index].write(to: &text, indent: indent, depth: depth + 1)
      }
      if !values.isEmpty { newline(depth) }
      text.append(UInt8(ascii: "]"))
    case .object(let members):
      text.append(UInt8(ascii: "{"))
      var pairs = Array(members)
      if pairs.count > 1 { pairs.sort { JSON.isBefore($0.key, $1.key) } }
      for index in pairs.indices {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        newline(depth + 1)
        JSON.quote(pairs[index].key, to: &text)
        text.append(UInt8(ascii: ":"))
        if indent != nil { text.append(0x20) }
        pairs[index].value.write(to: &text, indent: indent, depth: depth + 1)
      }
      if !members.isEmpty { newline(depth) }
      text.append(UInt8(ascii: "}"))
    }
  }

  /// The order of keys: that of their UTF-8 bytes.
  private static func isBefore(_ a: String, _ b: String) -> Bool {
    let order = a.utf8.withContiguousStorageIfAvailable { x in
      b.utf8.withContiguousStorageIfAvailable { y -> Bool in
        let common = min(x.count, y.count)
        guard common > 0, let p = x.baseAddress, let q = y.baseAddress else { return x.count < y.count }
        let difference = memcmp(p, q, common)
        return difference != 0 ? difference < 0 : x.count < y.count
      }
    }
    return (order ?? nil) ?? a.utf8.lexicographicallyPrecedes(b.utf8)
  }

  /// Appends `value` as JSON's string.
  static func quote(_ value: String, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    let start = text.count
    text += value.utf8
    // Most texts have nothing to escape.
    let isPlain = text[start...].allSatisfy {
      $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
    }
    if !isPlain {
      text.removeSubrange(start...)
      for byte in value.utf8 { escape(byte, to: &text) }
    }
    text.append(UInt8(ascii: "\""))
  }

  private static func escape(_ byte: UInt8, to text: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "\""): text += "\\\"".utf8
    case UInt8(ascii: "\\"): text += "\\\\".utf8
    case 0x0A: text += "\\n".utf8
    case 0x0D: text += "\\r".utf8
    case 0x09: text += "\\t".utf8
    case ..<0x20:
      let hex = String(byte, radix: 16)
      text += ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8
    default: text.append(byte)
    }
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
