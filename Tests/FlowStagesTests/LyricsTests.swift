import FlowCore
import FlowModels
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowScore
@testable import FlowStages

@Suite struct LyricsTests {
  private func run(_ files: [String: String], unknown: Lyrics.Unknown = .reject) throws -> (
    LyricsFile, FolderIO
  ) {
    let io = try FolderIO(root: try TemporaryFolder().path)
    let stored = try files.map { try io.store(Array($0.value.utf8), as: $0.key) }
    let context = StageContext(
      declaration: try #require(try StageContract.catalog.get()["lyrics"]),
      inputs: ["lyrics": [Item(id: "", files: stored, attributes: [:])]], threads: 1, io: io)
    try Lyrics(parameters: .init(espeak: .null, unknown: unknown)).run(context)
    let file = try #require(context.result.outputs["lyrics"]?.first?.files.first)
    let data = try Data(contentsOf: URL(fileURLWithPath: try io.materialise(file)))
    return (try JSONDecoder().decode(LyricsFile.self, from: data), io)
  }

  @Test func aTextBecomesTokens() throws {
    let (lyrics, io) = try run(["source.lrc": "[verse]\n[00:02.50]row, row\n\n你好\n"])
    #expect(lyrics.lines.map(\.start) == [nil, 2.5, nil] && lyrics.lines[0].tag == "[verse]")
    let words = ["ɹ", "oʊ", ",", "_", "ɹ", "oʊ"].compactMap { LyricTokens.id(ofPhone: $0) }
    let han = ["n", "i↓↑", "x", "ɑʊ↓↑"].compactMap { LyricTokens.id(ofPhone: $0) }
    #expect(lyrics.ids == [500, 511, 503, 511] + words + [511] + han + [511, 501, 511])
    #expect(io.log.contains { $0.contains("espeak-ng is not there") }, "the run says by what it was read")
  }

  @Test func startAndEndAreWrittenOnce() throws {
    let ids = try run(["source.txt": "[start]\nrow\n[end]"]).0.ids
    #expect(ids.count { $0 == 500 } == 1 && ids.count { $0 == 501 } == 1)
    #expect(ids.prefix(2) == [500, 511] && ids.suffix(2) == [501, 511])
  }

  @Test func phonesThatAreKnownStay() throws {
    let known = #"{"lines":[{"text":"row","phones":["s","oʊ"]}]}"#
    #expect(try run(["lyrics.json": known]).0.lines[0].phones == ["s", "oʊ"])
    let unknown = #"{"lines":[{"text":"row","phones":[]},{"text":"[chorus]"}]}"#
    let lines = try run(["lyrics.json": unknown]).0.lines
    #expect(lines[0].phones == ["ɹ", "oʊ"] && lines[1].tag == "[chorus]")
  }

  @Test func whatCannotBeSungSetsTheSongAside() throws {
    let text = "[verse]\nrow Привет\n[bad]\n"
    #expect {
      try run(["source.txt": text])
    } throws: { error in
      "\(error)".hasPrefix("line 2, column 5: 'Привет' (U+41F U+440 U+438 …) can't be sung; write it")
        && "\(error)".hasSuffix("(and 1 more)") && error is ItemRejected
    }
    let (lyrics, io) = try run(["source.txt": text], unknown: .drop)
    #expect(lyrics.lines.count == 2 && lyrics.lines[1].phones == ["ɹ", "oʊ"])
    #expect(io.log.count { $0.hasPrefix("left out: line ") } == 2)
    #expect(throws: ItemRejected.self) { try run(["source.txt": "\n \n"]) }
  }

  /// Every syllable's phones, in every tone, are in the published vocabulary; so are those of all Han characters.
  @Test func mandarinStaysInTheVocabulary() throws {
    let starts = [
      "", "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "zh", "ch", "sh", "r", "z",
      "c", "s",
    ]
    let ends = [
      "a", "o", "e", "i", "u", "v", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "ong", "ia", "ie",
      "iao", "iu", "ian", "in", "iang", "ing", "iong", "ua", "uo", "uai", "ui", "uan", "un", "uang", "ue",
      "ve", "er", "yi", "yuan", "weng", "yo",
    ]
    var count = 0
    for start in starts {
      for end in ends {
        for tone in 0...4 {
          for phone in Mandarin.phones(syllable: start + end, tone: tone) ?? [] {
            count += 1
            #expect(LyricTokens.id(ofPhone: phone) != nil, "\(start)\(end)\(tone): \(phone)")
          }
        }
      }
    }
    #expect(count > 4000)
    var readable = 0
    for code in 0x4E00...0x9FA5 {
      guard let scalar = Unicode.Scalar(UInt32(code)) else { continue }
      guard let phones = Mandarin.phones(String(scalar))[0] else { continue }
      readable += 1
      if !phones.allSatisfy({ LyricTokens.id(ofPhone: $0) != nil }) { Issue.record("\(scalar): \(phones)") }
    }
    #expect(readable > 20_000, "\(readable) of 20902")
  }
}
