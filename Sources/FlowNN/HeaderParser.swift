/// The JSON of a safetensors header, strictly: objects, strings, unsigned integers, and nothing else.
struct HeaderParser {
  let bytes: [UInt8]
  private var position = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func parse() throws -> ([String: SafetensorsFile.Entry], [String: String]) {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw invalid("it is not UTF-8") }
    var entries: [String: SafetensorsFile.Entry] = [:]
    var metadata: [String: String] = [:]
    var seen = Set<String>()
    try object { parser, name in
      guard seen.insert(name).inserted else { throw SafetensorsError.duplicateName(name) }
      if name == "__metadata__" {
        metadata = try parser.strings()
      } else {
        entries[name] = try parser.entry(name)
      }
    }
    skip()
    guard position == bytes.count else { throw invalid("something follows the object") }
    return (entries, metadata)
  }

  private mutating func strings() throws -> [String: String] {
    skip()
    var result: [String: String] = [:]
    if bytes[position...].starts(with: Array("null".utf8)) {
      position += 4
      return result
    }
    try object { parser, key in
      guard result[key] == nil else { throw SafetensorsError.duplicateName(key) }
      result[key] = try parser.string()
    }
    return result
  }

  private mutating func entry(_ name: String) throws -> SafetensorsFile.Entry {
    var type: String?
    var shape: [Int]?
    var offsets: [Int]?
    try object { parser, key in
      switch key {
      case "dtype" where type == nil: type = try parser.string()
      case "shape" where shape == nil: shape = try parser.integers()
      case "data_offsets" where offsets == nil: offsets = try parser.integers()
      case "dtype", "shape", "data_offsets": throw SafetensorsError.duplicateName(key)
      default: throw parser.invalid("tensor '\(name)' has the unknown field '\(key)'")
      }
    }
    guard let type, let shape, let offsets, offsets.count == 2 else {
      throw invalid("tensor '\(name)' needs dtype, shape and two data_offsets")
    }
    guard shape.count <= 64 else { throw invalid("tensor '\(name)' has rank \(shape.count)") }
    guard SafetensorsFile.bits[type] != nil else {
      throw SafetensorsError.unknownType(tensor: name, type: type)
    }
    return SafetensorsFile.Entry(type: type, shape: shape, begin: offsets[0], end: offsets[1])
  }

  private func invalid(_ why: String) -> SafetensorsError { .invalidHeader(why) }

  private mutating func skip() {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    skip()
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func object(_ member: (inout HeaderParser, String) throws -> Void) throws {
    guard take(UInt8(ascii: "{")) else { throw invalid("an object was expected at byte \(position)") }
    if take(UInt8(ascii: "}")) { return }
    repeat {
      let key = try string()
      guard take(UInt8(ascii: ":")) else { throw invalid("':' was expected at byte \(position)") }
      try member(&self, key)
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "}")) else { throw invalid("'}' was expected at byte \(position)") }
  }

  private mutating func integers() throws -> [Int] {
    guard take(UInt8(ascii: "[")) else { throw invalid("a list was expected at byte \(position)") }
    var result: [Int] = []
    if take(UInt8(ascii: "]")) { return result }
    repeat {
      skip()
      let first = position
      while position < bytes.count, (48...57).contains(bytes[position]) { position += 1 }
      let digits = String(decoding: bytes[first..<position], as: UTF8.self)
      guard let value = Int(digits), digits == "0" || !digits.hasPrefix("0") else {
        throw invalid("an unsigned integer was expected at byte \(first)")
      }
      result.append(value)
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "]")) else { throw invalid("']' was expected at byte \(position)") }
    return result
  }

  private mutating func string() throws -> String {
    guard take(UInt8(ascii: "\"")) else { throw invalid("a string was expected at byte \(position)") }
    var result: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: result, as: UTF8.self)
      case 0..<0x20: throw invalid("a control character in a string")
      case UInt8(ascii: "\\"): result += Array(String(try escape()).utf8)
      default: result.append(byte)
      }
    }
    throw invalid("a string does not end")
  }

  private mutating func escape() throws -> Character {
    guard position < bytes.count else { throw invalid("a string does not end") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      var value = try hexadecimal()
      if (0xD800..<0xDC00).contains(value) {
        guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw invalid("half of a surrogate pair") }
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw invalid("half of a surrogate pair") }
        value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(value) else { throw invalid("half of a surrogate pair") }
      return Character(scalar)
    default: throw invalid("an unknown escape in a string")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    guard position + 4 <= bytes.count,
      let value = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
    else { throw invalid("four hexadecimal digits were expected") }
    position += 4
    return value
  }
}
