import Testing

@testable import FlowModels

@Suite struct LyricTokensTests {
  @Test func symbolsAndTagsHaveTheirIDs() {
    #expect(LyricTokens.phoneCount == 363)
    #expect(LyricTokens.id(ofPhone: ",") == 1)
    #expect(LyricTokens.id(ofPhone: "_") == 5)
    #expect(LyricTokens.id(ofPhone: "p⁼wo→") == 92)
    #expect(LyricTokens.id(ofPhone: "…") == 363)
    #expect(LyricTokens.id(ofPhone: "\u{303}") == 358)
    #expect(LyricTokens.id(ofPhone: "\u{E7}") == 69)
    #expect(LyricTokens.id(ofPhone: "c\u{327}") == 324)
    #expect(LyricTokens.tag("[verse]") == [503, 511])
    let line = LyricTokens.line(["h", "?!", "ɛ"])
    #expect(line.ids.count == 3 && line.ids.last == 511)
    #expect(line.unknown == ["?!"])
  }

  @Test func everySpelledLetterIsInTheVocabulary() {
    let phones = LyricTokens.spelled("the quick brown fox jumps over a lazy dog")
    #expect(LyricTokens.line(phones).unknown.isEmpty)
    #expect(phones.filter { $0 == "_" }.count == 8)
    #expect(LyricTokens.spelled("… 12").isEmpty)
  }

  @Test func promptsWithSharedWordsAreNear() {
    func dot(_ a: String, _ b: String) -> Float {
      zip(PromptHash.vector(a, width: 128), PromptHash.vector(b, width: 128)).reduce(0) { $0 + $1.0 * $1.1 }
    }
    #expect(abs(dot("folk, harp", "Harp folk") - 1) < 1e-5)
    #expect(dot("slow folk song", "fast folk song") > 0.4)
    #expect(abs(dot("slow", "metal")) < 0.4)
    #expect(PromptHash.vector("", width: 4) == [0, 0, 0, 0])
  }
}
