/// Reads JSON as RFC 8259 says it, strictly, and keeps what Foundation's decoder drops: `1` is an integer, `1.0` and
/// `1e0` are floats. Integers that don't fit 64 bits become floats; the last of two equal keys wins.
struct JSONParser {
  private let bytes: [UInt8]
  private var index = 0
  private static let maxDepth = 512

  init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

  /// The one value of the text.
  mutating func parse() throws -> JSON {
    let value = try value(depth: 0)
    skipBlanks()
    guard index == bytes.count else { throw wrong("text after the value") }
    return value
  }

  private func wrong(_ what: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: [], debugDescription: "not JSON at byte \(index): \(what)"))
  }

  private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipBlanks() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    index += 1
    return true
  }

  private mutating func value(depth: Int) throws -> JSON {
    guard depth <= JSONParser.maxDepth else { throw wrong("nested too deeply") }
    skipBlanks()
    switch next {
    case UInt8(ascii: "{"): return try object(depth)
    case UInt8(ascii: "["): return try array(depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func word(_ text: String, _ value: JSON) throws -> JSON {
    guard bytes[index...].starts(with: text.utf8) else { throw wrong("an unknown word") }
    index += text.utf8.count
    return value
  }

  private mutating func object(_ depth: Int) throws -> JSON {
    index += 1
    var members: [String: JSON] = [:]
    skipBlanks()
    if take("}") { return .object(members) }
    repeat {
      skipBlanks()
      guard next == UInt8(ascii: "\"") else { throw wrong("a key was expected") }
      let key = try string()
      skipBlanks()
      guard take(":") else { throw wrong("':' was expected") }
      members[key] = try value(depth: depth + 1)
      skipBlanks()
    } while take(",")
    guard take("}") else { throw wrong("',' or '}' was expected") }
    return .object(members)
  }

  private mutating func array(_ depth: Int) throws -> JSON {
    index += 1
    var values: [JSON] = []
    skipBlanks()
    if take("]") { return .array(values) }
    repeat {
      values.append(try value(depth: depth + 1))
      skipBlanks()
    } while take(",")
    guard take("]") else { throw wrong("',' or ']' was expected") }
    return .array(values)
  }

  private mutating func digits() -> Bool {
    let start = index
    while let byte = next, (0x30...0x39).contains(byte) { index += 1 }
    return index > start
  }

  private mutating func number() throws -> JSON {
    let start = index
    _ = take("-")
    if !take("0") {
      guard digits() else { throw wrong("a value was expected") }
    }
    var isFloat = false
    if take(".") {
      isFloat = true
      guard digits() else { throw wrong("a digit was expected") }
    }
    if take("e") || take("E") {
      isFloat = true
      _ = take("+") || take("-")
      guard digits() else { throw wrong("a digit was expected") }
    }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if !isFloat, let value = Int(text) { return .int(value) }
    guard let value = Double(text), value.isFinite else { throw wrong("the number is too large") }
    return .double(value)
  }

  private mutating func string() throws -> String {
    index += 1
    var text: [UInt8] = []
    while let byte = next {
      index += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let result = String(validating: text, as: UTF8.self) else { throw wrong("not UTF-8") }
        return result
      case UInt8(ascii: "\\"): try escape(into: &text)
      case ..<0x20: throw wrong("a control character in a string")
      default: text.append(byte)
      }
    }
    throw wrong("a string has no end")
  }

  private mutating func escape(into text: inout [UInt8]) throws {
    guard let byte = next else { throw wrong("a string has no end") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "u"):
      var code = UInt32(try unit())
      if (0xD800..<0xDC00).contains(code) {
        guard take("\\"), take("u") else { throw wrong("half of a surrogate pair") }
        let low = UInt32(try unit())
        guard (0xDC00..<0xE000).contains(low) else { throw wrong("half of a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw wrong("half of a surrogate pair") }
      text += Array(String(Character(scalar)).utf8)
    default: throw wrong("an unknown escape")
    }
  }

  private mutating func unit() throws -> UInt16 {
    var code: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw wrong("four hexadecimal digits were expected")
      }
      code = code << 4 | UInt16(digit)
      index += 1
    }
    return code
  }
}
