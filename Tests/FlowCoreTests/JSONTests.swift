import FlowCore
import Testing

@Suite struct JSONTests {
  /// Keys are hashed over this text, so a changed byte here would forget every cached result.
  @Test(
    arguments: [
      (.null, "null"), (true, "true"), (1, "1"), (1.0, "1.0"), (.double(-0.0), "0.0"), (0.1, "0.1"),
      (1e300, "1e+300"), (.double(.leastNonzeroMagnitude), "5e-324"), (.int(.min), "-9223372036854775808"),
      (.double(.nan), "\"NaN\""), (.double(.infinity), "\"Infinity\""),
      (.double(-.infinity), "\"-Infinity\""),
      ("a\"\\/\n\r\t\u{1}é😀\u{7f}", "\"a\\\"\\\\/\\n\\r\\t\\u0001é😀\u{7f}\""),
      ([], "[]"), ([:], "{}"), ([1, [2], ["a": .null]], "[1,[2],{\"a\":null}]"),
    ] as [(JSON, String)])
  func canonicalText(value: JSON, text: String) { #expect(value.canonical == text) }

  /// By UTF-8 bytes, which differs from the order of `String` (canonical equivalence) and of UTF-16 units.
  @Test func membersAreSortedByBytes() {
    let value: JSON = ["b": 1, "a": 2, "B": 3, "é": 4, "z": 5, "\u{ffff}": 6, "😀": 7, "": 8]
    #expect(
      value.canonical
        == "{\"\":8,\"B\":3,\"a\":2,\"b\":1,\"z\":5,\"é\":4,\"\u{ffff}\":6,\"😀\":7}")
  }

  @Test func prettyTextHoldsTheSameValue() throws {
    let value: JSON = ["list": [1, 2.5, "x", [], [:]], "nested": ["deep": [true, .null]]]
    #expect(try JSON(parsing: value.pretty.utf8) == value)
    #expect(value.pretty.contains("\n  \"list\": [\n    1,"))
    #expect(try JSON(parsing: value.canonical.utf8) == value)
  }

  @Test(arguments: [
    "", "{", "[1,]", "[,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "01", "-", "1.", ".5", "1e", "+1", "nul",
    "\"a",
    "\"\\x\"", "\"\\ud83d\"", "\"\\udc00\"", "\"\\u12g4\"", "\"\t\"", "1 2", "\u{7}", "1e999", "NaN",
  ]) func whatIsNotJSONIsAnError(text: String) {
    #expect(throws: (any Error).self) { try JSON(parsing: text.utf8) }
  }

  @Test func integersAndFloatsStayApart() throws {
    let text = "[1,1.0,1e0,-0,-0.0,9223372036854775807,9223372036854775808]"
    let value = try JSON(parsing: text.utf8)
    #expect(value == [1, 1.0, 1.0, 0, .double(-0.0), .int(.max), 0x1p63])
  }

  @Test func escapesAndSurrogatePairs() throws {
    #expect(try JSON(parsing: #" "\u00e9\ud83d\uDE00\b\f\/\n" "#.utf8) == "é😀\u{8}\u{c}/\n")
  }

  @Test func depthIsBounded() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try JSON(parsing: nested(500).utf8)
    #expect(throws: DecodingError.self) { try JSON(parsing: nested(1_000_000).utf8) }
  }

  @Test func bytesThatAreNotUTF8AreAnError() {
    #expect(throws: DecodingError.self) { try JSON(parsing: [0x22, 0xFF, 0x22]) }
  }

  @Test func membersAndValuesAreTyped() {
    let value: JSON = ["i": 3, "d": 2.5, "s": "x"]
    #expect(value["i"]?.number == 3 && value["d"]?.number == 2.5 && value["s"]?.number == nil)
    #expect(
      value["s"]?.text == "x" && value["i"]?.text == nil && value["none"] == nil && value["s"]?["x"] == nil)
  }

  @Test func encodableValuesComeBack() throws {
    struct Sample: Codable, Equatable {
      var count: Int
      var ratio: Double
      var names: [String]
      var note: String?
    }
    let sample = Sample(count: 3, ratio: 0.1, names: ["a", "é"], note: nil)
    #expect(try JSON(encoding: sample).decode(Sample.self) == sample)
  }

  /// 2000 random trees: text and back is the same tree, and the canonical text of it the same text. Whole-valued
  /// floats are drawn too: a float must not come back as an integer, or a key would change between two runs.
  @Test func randomTreesRoundTrip() throws {
    var random = Philox(seed: 11)
    func tree(_ depth: Int) -> JSON {
      switch Int(random.next() % (depth > 3 ? 5 : 7)) {
      case 0: return .null
      case 1: return .bool(random.next() % 2 == 0)
      case 2: return .int(Int(truncatingIfNeeded: random.next()) >> Int(random.next() % 64))
      case 3: return .double(Double(Int(random.next() % 2000)) / 8)
      case 4:
        return .string(
          String((0..<random.next() % 6).map { _ in "aé😀\"\\\n\u{2}/ ".randomElement(using: &random) ?? "a" })
        )
      case 5: return .array((0..<random.next() % 4).map { _ in tree(depth + 1) })
      default:
        let members = (0..<random.next() % 4).map { ("k\($0)\"é", tree(depth + 1)) }
        return .object(Dictionary(members, uniquingKeysWith: { $1 }))
      }
    }
    for _ in 0..<2000 {
      let value = tree(0)
      let back = try JSON(parsing: value.canonical.utf8)
      #expect(back.canonical == value.canonical)
      #expect(back == value)
    }
  }
}
