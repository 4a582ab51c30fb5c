import FlowCore
import Foundation
import Testing

@testable import FlowScore

@Suite struct LyricTests {
  private let tags = ["[start]", "[end]", "[verse]", "[chorus]"]
  private func read(_ text: String) -> LyricText { LyricText(text, file: "f.txt", tags: tags) }

  @Test func plainLinesAndTags() {
    let text = read("\u{FEFF}[verse]\r\n row the boat \r\n\r\n\t[Chorus 2]\nhey [x\n")
    #expect(
      text.lines.map(\.content) == [
        .tag("[verse]"), .words("row the boat"), .tag("[chorus]"), .words("hey [x"),
      ])
    #expect(text.lines.map(\.place.line) == [1, 2, 4, 5] && text.lines.map(\.place.column) == [1, 2, 2, 1])
    #expect(text.lines.allSatisfy { $0.start == nil } && text.problems.isEmpty)
  }

  @Test func timesOfLRC() {
    let text = read(
      """
      [ar: Nobody]
      [offset: +250]
      [00:01.5]one
      [01:02.03] [00:10.25]  two
      [00:05:50]<00:05.50>th<00:06.00>ree
      [00:00.10][verse]
      """)
    #expect(text.problems.isEmpty)
    #expect(
      text.lines.map(\.content) == [
        .tag("[verse]"), .words("one"), .words("three"), .words("two"), .words("two"),
      ])
    #expect(text.lines.map(\.start) == [0, 1.25, 5.25, 10, 61.78])
    #expect(text.lines.last?.place.line == 4 && text.lines.last?.place.column == 24)
  }

  @Test(
    arguments: [
      ("ok\n[00:61.00] x", "E064", 2, 1), ("[pre-chorus]", "E063", 1, 1), ("  [verse two]", "E063", 1, 3),
      ("[00:01.00] [1:2:3:4] x", "E064", 1, 12), ("[]", "E063", 1, 1),
    ])
  func mistakesHaveTheirPlace(text: String, code: String, line: Int, column: Int) throws {
    let found = try #require(read(text).problems.first)
    #expect(found.code == code && found.location?.line == line && found.location?.column == column)
    #expect(found.help != nil && found.sourceLine != nil)
  }

  private func phones(_ text: String, espeak: Espeak? = nil) throws -> (String, [String]) {
    let words = LyricPhones(espeak: espeak) { !["ɬ", "zz"].contains($0) }
    let line = try #require(read(text).lines.first)
    let (phones, problems) = try words.phones(line)
    return (
      phones.joined(separator: " "),
      problems.map { "\($0.location?.line ?? 0):\($0.location?.column ?? 0) \($0.location?.length ?? 0)" }
    )
  }

  @Test func wordsMarksAndScripts() throws {
    #expect(try phones("row, row!").0 == "ɹ oʊ , _ ɹ oʊ !")
    #expect(try phones("I'm \"so\" (high)…").0 == "aɪ m _ s oʊ _ h aɪ …")
    #expect(try phones("go—see").0 == (try phones("go see").0))
    #expect(try phones("naïve").0 == (try phones("naive").0))
    #expect(try phones("你好，love").0 == "n i↓↑ x ɑʊ↓↑ , _ l ʌ v")
    #expect(try phones("love 你").0 == "l ʌ v n i↓↑")
    #expect(try phones("♪ ' - ♪") == ("", []))
  }

  @Test func whatCannotBeSungHasItsPlace() throws {
    #expect(try phones("so Привет you").1 == ["1:4 6"])
    #expect(try phones("  so 😀").1 == ["1:6 1"])
    #expect(try phones("in 1999 we").1 == ["1:4 4"], "flow's own rules read no numbers")
    #expect(try phones("so [x").1 == ["1:4 1"])
    #expect(try phones("so Привет you").0 == "s oʊ _ j uː", "the rest is read")
  }

  /// Tones of 一 and 不 follow their neighbours; numbers and 第 leave 一 alone.
  @Test(
    arguments: [
      ("不是", "p⁼ u↑ s`ɹ↓"), ("不好", "p⁼ u↓ x ɑʊ↓↑"), ("一个", "i↑ k⁼ ə↓"), ("一天", "i↓ tʰ jɛn→"),
      ("第一", "t⁼ i↓ i→"), ("一二", "i→ əɹ↓"), ("吕", "l ɥ↓↑"), ("去", "tʃʰ ɥ↓"), ("略", "l ɥɛ↓"),
      ("雄", "ʃ jʊŋ↑"), ("思", "sɹ→"), ("波", "p⁼wo→"), ("我们", "uo↓↑ m ən"), ("元", "ɥæn↑"), ("用", "jʊŋ↓"),
    ])
  func mandarin(text: String, expected: String) throws { #expect(try phones(text).0 == expected) }

  @Test func espeaksPhonesAreFitted() {
    func fitted(_ phones: String) -> String {
      Espeak.fitted(phones.split(separator: " ").map(String.init)) {
        ["t", "ɹ", "tɹ", "dɹ", "ts", "dz", "d", "z", "s", "ɪ", "ɪɹ", "oː", "oːɹ", "ɚ", "l", "k", "n", "a"]
          .contains($0)
      }.joined(separator: " ")
    }
    #expect(fitted("t ɹ d ɹ d z t s") == "tɹ dɹ dz ts")
    #expect(fitted("ɪ ɹ oː ɹ") == "ɪɹ oːɹ")
    #expect(fitted("ɐ ᵻ əl x ɬ ʔ n̩") == "ɚ ɪ l k l t n")
    #expect(fitted("aɪ") == "a ɪ" && fitted("aʒ") == "aʒ")
  }

  @Test func espeakReadsWords() throws {
    let path = "/usr/bin/espeak-ng"
    guard FileManager.default.isExecutableFile(atPath: path) else {
      print("skipped: no espeak-ng")
      return
    }
    let espeak = Espeak(path: path)
    #expect(try phones("I tried, 3 drums", espeak: espeak).0 == "aɪ _ tɹ aɪ d , _ θ ɹ iː _ dɹ ʌ m z")
    #expect(try phones("[[hello]] x", espeak: espeak).1 == ["1:1 2", "1:8 2"], "no phonemes of its own")
    #expect(try phones("a; rm -rf", espeak: espeak).1.isEmpty)
    #expect(throws: (any Error).self) { try phones("so", espeak: Espeak(path: "/nowhere/espeak-ng")) }
    #expect(throws: (any Error).self) { try phones("so", espeak: Espeak(path: "/bin/false")) }
  }
}
