import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

/// One way of being wrong: an edit of the good pipeline, and what must be said about it.
struct Mistake: Sendable, CustomTestStringConvertible {
  var from: String
  var to: String
  var code: String
  var line: Int
  var column: Int
  /// What message, label or help must contain.
  var says: String
  var testDescription: String { "\(code) \(to.prefix(40))" }

  init(_ from: String, _ to: String, _ code: String, _ line: Int, _ column: Int, _ says: String) {
    (self.from, self.to, self.code, self.line, self.column, self.says) = (from, to, code, line, column, says)
  }
}

@Suite struct MistakeTests {
  @Test(arguments: [
    Mistake("with: { fmax: 900 }", "with: { fmaks: 900 }", "E011", 8, 13, "did you mean 'fmax'?"),
    Mistake("    with: { fmax: 900 }", "    fmax: 900", "E011", 8, 5, "it belongs under 'with'"),
    Mistake("  tune:\n    in", "  tune:\n    inn", "E011", 7, 5, "did you mean 'in'?"),
    Mistake("outputs:", "output:", "E011", 12, 1, "did you mean 'outputs'?"),
    Mistake("fmax: 900", "fmax: loud", "E014", 8, 19, "must be a number"),
    Mistake("fmax: 900", "hop: 1.5", "E014", 8, 18, "must be a whole number"),
    Mistake("fmax: 900", "on: yes", "E014", 8, 17, "write true or false"),
    Mistake("fmax: 900", "hop: 12:30", "E014", 8, 18, "write it out"),
    Mistake("fmax: 900", "hop: 0512", "E014", 8, 18, "drop the leading zero"),
    Mistake("fmax: 900", "fmax: .nan", "E014", 8, 19, "must be a number"),
    Mistake("fmax: 900", "fmax: 1e999", "E014", 8, 19, "must be a number"),
    Mistake("fmax: 900", "mode: exakt", "E014", 8, 19, "did you mean 'exact'?"),
    Mistake("fmax: 900", "fmax: [900]", "E014", 8, 19, "must be a number"),
    Mistake("fmax: 900", "fmax: 5", "E018", 8, 19, "at least 20"),
    Mistake("fmax: 900", "hop: 99999", "E018", 8, 18, "at most 4096"),
    Mistake("tune.audio", "tone.audio", "E022", 10, 18, "did you mean 'tune'?"),
    Mistake("tune.audio", "tune.audi", "E022", 10, 18, "did you mean 'audio'?"),
    Mistake("audio: songs", "audio: song", "E022", 7, 18, "did you mean 'songs'?"),
    Mistake("tune.audio", "tune.f0", "E023", 10, 18, "takes audio, but tune.f0 is f0"),
    Mistake("audio: songs", "audio: tune.audio", "E024", 6, 3, "in a circle: tune <- tune"),
    Mistake("    in: { audio: songs }\n", "", "E021", 6, 3, "needs the input 'audio'"),
    Mistake("in: { audio: songs }", "in: { audio: [] }", "E021", 7, 18, "the list is empty"),
    Mistake(#""${params.seed}""#, #""${params.sed}""#, "E025", 11, 20, "did you mean 'seed'?"),
    Mistake(#"{ steps: "${params.seed}" }"#, "{}", "E015", 11, 11, "needs the parameter 'steps'"),
    Mistake("  train:\n", "  trian:\n", "E020", 9, 3, "did you mean 'train'?"),
    Mistake("{ path: songs, license: CC0-1.0 }", "{ license: CC0-1.0 }", "E015", 4, 3, "needs 'path'"),
    Mistake("flow: 1", "flow: 2", "E016", 1, 7, "begins with 'flow: 1'"),
    Mistake(
      "outputs: { weights: train.weights }", "outputs: { ../up: train.weights }", "E019", 12, 12, "can't name"
    ),
    Mistake(
      "    with: { fmax: 900 }\n", "    with: { fmax: 900 }\n    with: { hop: 2 }\n", "E010", 9, 5,
      "occurs twice"),
    Mistake("    in: { audio: songs }", "\tin: { audio: songs }", "E001", 7, 1, "no tabs"),
    Mistake("  tune:", "  tune: [", "E001", 8, 5, "not valid YAML"),
    Mistake("tune:\n    in", "tune:\n    on_error: skipp\n    in", "E014", 7, 15, "did you mean 'skip'?"),
    Mistake("tune:\n    in", "tune:\n    resources: { memory: 5QB }\n    in", "E014", 7, 26, "like 512MiB"),
    Mistake("stages:", "stages: 5\nx:", "E013", 5, 9, "must be a mapping"),
  ])
  func isSaidWithItsPlace(_ mistake: Mistake) throws {
    #expect(Fixture.good.contains(mistake.from), "the case edits nothing")
    let text = Fixture.good.replacingOccurrences(of: mistake.from, with: mistake.to)
    let found = Fixture.mistakes(text)
    let hit = try #require(
      found.first { $0.code == mistake.code }, "found \(found.map { "\($0.code) \($0.message)" })")
    let place = try #require(hit.location)
    #expect(place.line == mistake.line && place.column == mistake.column, "\(place) \(hit.message)")
    let said = [hit.message, hit.label ?? "", hit.help ?? ""].joined(separator: "|")
    #expect(said.contains(mistake.says), "\(said)")
    #expect(place.file == "dir/p.yaml")
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(hit.sourceLine == String(lines[place.line - 1]))
  }

  @Test func allMistakesComeAtOnceInTheOrderOfTheText() {
    let text = Fixture.good
      .replacingOccurrences(of: "fmax: 900", with: "fmaks: 900, hop: loud")
      .replacingOccurrences(of: "tune.audio", with: "tone.audio")
      .replacingOccurrences(of: "license", with: "licence")
    #expect(Fixture.mistakes(text).map(\.code) == ["E011", "E011", "E014", "E022"])
  }

  @Test(arguments: [
    ("stages.tune.with.fmaks=1", "E011", "did you mean 'fmax'?"),
    ("stages.tone.with.fmax=1", "E017", "did you mean 'tune'?"),
    ("stages.tune.with.fmax", "E017", "no '='"), ("outputs.x=1", "E017", "begin with"),
    ("stages.tune.with.fmax=loud", "E014", "must be a number"),
  ])
  func aBadSetIsSaid(_ override: String, _ code: String, _ says: String) throws {
    let hit = try #require(Fixture.mistakes(Fixture.good, [override]).first)
    #expect(hit.code == code)
    #expect(hit.location?.file == "--set")
    #expect("\(hit.message)|\(hit.label ?? "")".contains(says))
  }

  /// A letter dropped, doubled or swapped in a key of the pipeline's: it is refused, at its line, with the key meant.
  @Test(arguments: ["sources", "stages", "outputs", "path", "license", "with", "fmax", "steps"])
  func aTypoInAKeyIsRefusedAndMended(_ key: String) throws {
    let letters = Array(key)
    for i in letters.indices {
      var typos = [letters[..<i] + letters[(i + 1)...], letters[...i] + letters[i...]]
      if i + 1 < letters.count {
        typos.append(letters[..<i] + [letters[i + 1], letters[i]] + letters[(i + 2)...])
      }
      for typo in typos.map({ String($0) }) where typo != key {
        let text = Fixture.good.replacing(try Regex("\\b\(key):"), maxReplacements: 1) { _ in "\(typo):" }
        let found = Fixture.mistakes(text)
        let hit = found.first { $0.code == "E011" && $0.label == "did you mean '\(key)'?" }
        #expect(hit != nil, "\(typo): \(found.map(\.message))")
        let line = text.split(separator: "\n").firstIndex { $0.contains("\(typo):") }
        #expect(hit?.location?.line == line.map { $0 + 1 })
      }
    }
  }
}

@Suite struct HostileTextTests {
  @Test func bombsAreRefusedQuickly() {
    var laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for i in 1...9 {
      laughs += "a\(i): &a\(i) [" + Array(repeating: "*a\(i - 1)", count: 9).joined(separator: ",") + "]\n"
    }
    let few =
      "a: &a [x, x, x, x]\n"
      + (1...5).map { i in
        let above = i == 1 ? "a" : "b\(i - 1)"
        return "b\(i): &b\(i) [*\(above), *\(above), *\(above)]\n"
      }.joined()
    let deep = String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)
    let long = "flow: 1 # " + String(repeating: "x", count: 2_000_000)
    let clock = ContinuousClock()
    let codes = [laughs, deep, long].map { Fixture.mistakes($0).first?.code ?? "" }
    #expect(codes[0] == "E004" && ["E001", "E004"].contains(codes[1]) && codes[2] == "E003")
    #expect(clock.measure { _ = Fixture.mistakes(laughs) } < .seconds(2))
    #expect(clock.measure { _ = Fixture.mistakes(few) } < .seconds(2))
  }

  @Test func nothingAtAllIsRefused() {
    for text in ["", "\n", "# only a comment", "~", "[]", "5", "\u{FEFF}"] {
      #expect(!Fixture.mistakes(text).isEmpty, "\(text.debugDescription)")
    }
  }

  @Test func aByteOrderMarkAndWindowsLinesAreNoMatter() throws {
    let text = "\u{FEFF}" + Fixture.good.replacingOccurrences(of: "\n", with: "\r\n")
    #expect(try Fixture.plan(text).stages.count == 2)
    let bad = text.replacingOccurrences(of: "fmax: 900", with: "fmax: loud")
    #expect(Fixture.mistakes(bad).first?.location?.line == 8)
    #expect(Fixture.mistakes(bad).first?.sourceLine?.hasSuffix("}") == true)
  }

  /// Whatever the text, the answer is a plan or diagnostics with a code, at places inside the text.
  @Test(arguments: 0..<8)
  func mutantsGetAPlanOrDiagnostics(_ seed: Int) {
    var random = Philox(seed: UInt64(seed), label: "mutants")
    let pieces = [
      "{", "}", "[", "]", ": ", "- ", "\"", "'", "&a ", "*a ", "!!int ", "%", "|\n", ">", "~", "${",
      "${params.seed}",
      "\t", "\n", "#", "9999999999999999999", "-1", ".nan", "\u{1}", "\u{FFFD}", "<<: *a", "? ", "---\n",
      "日本",
      "\u{301}",
    ]
    for _ in 0..<150 {
      var text = Array(Fixture.good.unicodeScalars)
      for _ in 0...Int(random.next() % 3) {
        let at = Int(random.next() % UInt64(text.count))
        switch random.next() % 4 {
        case 0: text.removeSubrange(at..<min(text.count, at + 1 + Int(random.next() % 12)))
        case 1:
          text.insert(contentsOf: pieces[Int(random.next() % UInt64(pieces.count))].unicodeScalars, at: at)
        case 2: text[at] = Unicode.Scalar(UInt8(32 + random.next() % 95))
        default: text.insert(contentsOf: Array(text[at..<min(text.count, at + 40)]), at: at)
        }
        if text.isEmpty { text = ["x"] }
      }
      let mutant = String(String.UnicodeScalarView(text))
      let lines = mutant.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }
        .count
      for mistake in Fixture.mistakes(mutant) {
        #expect(mistake.code.wholeMatch(of: #/E0[0-9]{2}/#) != nil)
        if let place = mistake.location {
          #expect((1...lines + 1).contains(place.line) && place.column >= 1, "\(mistake) in \(mutant)")
        }
      }
    }
  }
}
