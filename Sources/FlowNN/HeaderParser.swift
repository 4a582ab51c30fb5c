/// The JSON of a safetensors header, strictly: objects, strings, unsigned integers, and nothing else. It is read in place,
/// as it may be long.
struct HeaderParser {
  let bytes: UnsafeRawBufferPointer
  private var position = 0

  init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// The byte to read next, if there is one.
  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func parse() throws(SafetensorsError) -> ([String: SafetensorsFile.Entry], [String: String]) {
    var entries: [String: SafetensorsFile.Entry] = [:]
    var metadata: [String: String]?
    try object { (parser, name) throws(SafetensorsError) in
      if name == "__metadata__" {
        guard metadata == nil else { throw .duplicateName(name) }
        metadata = try parser.strings()
      } else {
        guard entries[name] == nil else { throw .duplicateName(name) }
        entries[name] = try parser.entry(name)
      }
    }
    skip()
    guard position == bytes.count else { throw invalid("something follows the object") }
    return (entries, metadata ?? [:])
  }

  private mutating func strings() throws(SafetensorsError) -> [String: String] {
    skip()
    var result: [String: String] = [:]
    if bytes[min(position, bytes.count)...].starts(with: Array("null".utf8)) {
      position += 4
      return result
    }
    try object { (parser, key) throws(SafetensorsError) in
      guard result[key] == nil else { throw .duplicateName(key) }
      result[key] = try parser.string()
    }
    return result
  }

  private mutating func entry(_ name: String) throws(SafetensorsError) -> SafetensorsFile.Entry {
    var type: String?
    var shape: [Int]?
    var offsets: [Int]?
    try object { (parser, key) throws(SafetensorsError) in
      switch key {
      case "dtype" where type == nil: type = try parser.string()
      case "shape" where shape == nil: shape = try parser.integers()
      case "data_offsets" where offsets == nil: offsets = try parser.integers()
      case "dtype", "shape", "data_offsets": throw .duplicateName(key)
      default: throw parser.invalid("tensor '\(name)' has the unknown field '\(key)'")
      }
    }
    guard let type, let shape, let offsets, offsets.count == 2 else {
      throw invalid("tensor '\(name)' needs dtype, shape and two data_offsets")
    }
    guard SafetensorsFile.bits[type] != nil else { throw .unknownType(tensor: name, type: type) }
    return SafetensorsFile.Entry(type: type, shape: shape, begin: offsets[0], end: offsets[1])
  }

  private func invalid(_ why: String) -> SafetensorsError { .invalidHeader(why) }

  private mutating func skip() {
    while let byte = next, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    skip()
    guard next == byte else { return false }
    position += 1
    return true
  }

  private mutating func object(
    _ member: (inout HeaderParser, String) throws(SafetensorsError) -> Void
  ) throws(SafetensorsError) {
    guard take(UInt8(ascii: "{")) else { throw invalid("an object was expected at byte \(position)") }
    if take(UInt8(ascii: "}")) { return }
    repeat {
      let key = try string()
      guard take(UInt8(ascii: ":")) else { throw invalid("':' was expected at byte \(position)") }
      try member(&self, key)
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "}")) else { throw invalid("'}' was expected at byte \(position)") }
  }

  /// At most 64, which no tensor's shape exceeds.
  private mutating func integers() throws(SafetensorsError) -> [Int] {
    guard take(UInt8(ascii: "[")) else { throw invalid("a list was expected at byte \(position)") }
    var result: [Int] = []
    if take(UInt8(ascii: "]")) { return result }
    repeat {
      skip()
      let first = position
      var value = 0
      while let byte = next, (48...57).contains(byte) {
        let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
        let (sum, tooLargeToo) = tens.addingReportingOverflow(Int(byte) - 48)
        guard !tooLarge, !tooLargeToo else { throw invalid("the integer at byte \(first) is too large") }
        value = sum
        position += 1
      }
      guard position == first + 1 || (position > first && bytes[first] != 48) else {
        throw invalid("an unsigned integer was expected at byte \(first)")
      }
      guard result.count < 64 else { throw invalid("the list at byte \(first) has more than 64 numbers") }
      result.append(value)
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "]")) else { throw invalid("']' was expected at byte \(position)") }
    return result
  }

  private mutating func string() throws(SafetensorsError) -> String {
    guard take(UInt8(ascii: "\"")) else { throw invalid("a string was expected at byte \(position)") }
    let first = position
    var result: [UInt8] = []
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: result, as: UTF8.self) else {
          throw invalid("the string at byte \(first) is not UTF-8")
        }
        return text
      case 0..<0x20: throw invalid("a control character in the string at byte \(first)")
      case UInt8(ascii: "\\"): result += Array(String(try escape()).utf8)
      default: result.append(byte)
      }
    }
    throw invalid("the string at byte \(first) does not end")
  }

  private mutating func escape() throws(SafetensorsError) -> Character {
    guard let byte = next else { throw invalid("a string does not end") }
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

  private mutating func hexadecimal() throws(SafetensorsError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw invalid("four hexadecimal digits were expected")
      }
      value = value << 4 + UInt32(digit)
      position += 1
    }
    return value
  }
}
