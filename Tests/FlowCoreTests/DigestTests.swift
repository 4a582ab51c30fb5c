import FlowCore
import Testing

/// The vectors are those of FIPS 180-4's examples (NIST, "SHA256.pdf") and of its long message of a million letters.
@Suite struct DigestTests {
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ]) func knownAnswers(text: String, hex: String) {
    #expect(Digest(of: text).hex == hex)
  }

  @Test func aMillionLettersInUnevenPieces() {
    var hasher = SHA256()
    var rest = 1_000_000
    var size = 1
    while rest > 0 {
      let take = min(size, rest)
      hasher.update([UInt8](repeating: 0x61, count: take))
      rest -= take
      size = size * 3 % 8191 + 1
    }
    #expect(hasher.finish().hex == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  /// A sequence without contiguous storage takes another way through `update`.
  @Test func lazySequencesHashAsArraysDo() {
    let bytes = (0..<1000).map { UInt8($0 & 255) }
    #expect(Digest(of: bytes.lazy.map { $0 }) == Digest(of: bytes))
    #expect(Digest(of: AnySequence(bytes)) == Digest(of: bytes))
  }

  @Test func finishEmptiesTheHash() {
    var hasher = SHA256()
    hasher.update("abc".utf8)
    _ = hasher.finish()
    #expect(hasher.finish() == Digest(of: ""))
  }

  /// Without lengths, the two sequences of fields would be the same bytes.
  @Test func fieldsCantRunIntoEachOther() {
    func digest(_ fields: [(String, String)]) -> Digest {
      var hasher = SHA256()
      for (tag, text) in fields { hasher.field(tag, text.utf8) }
      return hasher.finish()
    }
    #expect(digest([("a", "xy"), ("a", "z")]) != digest([("a", "x"), ("a", "yz")]))
    #expect(digest([("a", ""), ("a", "x")]) != digest([("a", "x"), ("a", "")]))
    #expect(digest([("a", "x\na:1:y")]) != digest([("a", "x"), ("a", "y")]))
  }

  @Test func onlySixtyFourLowerCaseHexDigitsAreADigest() {
    let good = Digest(of: "abc").hex
    #expect(Digest(hex: good) == Digest(of: "abc"))
    for bad in [
      "", good.uppercased(), String(good.dropLast()), good + "0", good.dropLast() + "g",
      good.dropLast() + "é",
    ] {
      #expect(Digest(hex: bad) == nil)
    }
  }

  @Test func decodingRefusesWhatIsNoDigest() throws {
    let digest = Digest(of: "abc")
    #expect(try JSON(encoding: digest) == .string(digest.hex))
    #expect(try JSON.string(digest.hex).decode(Digest.self) == digest)
    #expect(throws: DecodingError.self) { try JSON.string("ABC").decode(Digest.self) }
  }
}
