import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// Texts that do something when a shell, a path or a terminal reads them.
private enum Hostile {
  static let injections: [String] = [
    "; touch canary", "&& touch canary", "| touch canary", "|| touch canary", "& touch canary &",
    "$(touch canary)",
    "`touch canary`", "\n touch canary\n", "\r\ntouch canary", "'; touch canary; '", "\"; touch canary; \"",
    "'$(touch canary)'", "\"$(touch canary)\"", "\\$(touch canary)", "$((`touch canary`))",
    "${IFS}touch${IFS}canary",
    ">canary", ">>canary", "2>canary", "<(touch canary)", ">(touch canary)", "<<EOF\ntouch canary\nEOF",
    "!touch canary",
    "*", "?", "[a-z]*", "~", "~root", "$HOME", "$PATH", "${FLOW_OUT_TEXT}", "$FLOW_PARAM_VALUE", "{a,b}",
    "#touch canary",
    "-rf", "--help", "-n", "--", "-e touch canary", "%s%n%x", "\\x24(touch canary)", "\\n", "a b\tc", " ",
    "''", "\"\"",
    "\u{1B}]0;x\u{7}", "\u{202E}yranac hcuot", "日本 ; touch canary", "eval touch canary",
    "$'\\x74ouch canary'",
    "a=$(touch canary);$a", "{in.text}", "{params.value}", "{out.text}/../canary",
  ]

  /// Names of files, without their ending.
  static let names: [[UInt8]] = {
    var texts = injections.map { $0.replacingOccurrences(of: "/", with: "_") }
    texts += [
      "..", "...", ".. ", "..x", "x..", "-rf", "--", "-", "~", "con", "nul", "aux", "COM1", "a:b", "a\\b",
      "..\\..\\x",
      "%2e%2e%2fx", "a\nb", "a\rb", "a\tb", "\u{7F}", "\u{1}", "\u{1B}[31mred", "\u{202E}gpj.exe", "\u{200B}",
      "\u{FEFF}bom", "e\u{301}", "ﬁ", "İ", "🎵", "👩‍👩‍👧", "日本語", "مرحبا", "𝄞", " leading", "trailing ", "a  b",
      "'", "\"", "`", "#", "?", "*", "[x]", "{x}", "a=b", "a,b", "(x)", "x;y", "x&y", "x|y", "x<y", "x>y",
      "$x", "!x",
      "^", "@", "+", "%", "null", "true", "1e3", "0x10", "- a", "a: b", "&a", "*a", "!tag",
    ]
    texts += [
      String(repeating: "a", count: 251), String(repeating: "é", count: 125),
      String(repeating: "🎵", count: 62),
    ]
    var seen = Set<String>()
    return texts.filter { seen.insert($0).inserted }.map { Array($0.utf8) }
  }()
}

/// A project beside files that nothing may touch.
private struct Yard {
  let folder: TemporaryFolder
  let bench: String
  let store: Store

  init() throws {
    folder = try TemporaryFolder()
    bench = folder.path + "/yard/project"
    for name in ["canary-above", "yard/canary-beside", "yard/project/canary-within"] {
      try folder.write(name, "untouched")
    }
    store = try Store(root: bench + "/cache")
  }

  /// What lies outside of the cache, `runs/` and the source, and what looks like a canary anywhere.
  func strays() -> [String] {
    let all = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
    let allowed = [
      "yard/project/cache", "yard/project/runs", "yard/project/texts", "yard/project/p.lock.yaml",
    ]
    let known = ["yard", "yard/project", "canary-above", "yard/canary-beside", "yard/project/canary-within"]
    return all.filter { path in
      if known.contains(path) { return false }
      return path.split(separator: "/").last == "canary"
        || !allowed.contains { path == $0 || path.hasPrefix($0 + "/") }
    }
  }

  var canariesLive: Bool {
    ["canary-above", "yard/canary-beside", "yard/project/canary-within"].allSatisfy {
      folder.text($0) == "untouched"
    }
  }

  /// Writes a file whose name is these bytes.
  func write(_ name: [UInt8], _ text: String) throws -> Bool {
    try FileManager.default.createDirectory(atPath: bench + "/texts", withIntermediateDirectories: true)
    let path = (Array((bench + "/texts/").utf8) + name + Array(".txt".utf8) + [0]).map {
      CChar(bitPattern: $0)
    }
    let file = open(path, O_CREAT | O_WRONLY, 0o644)
    guard file >= 0 else { return false }
    defer { close(file) }
    return Foundation.write(file, text, text.utf8.count) == text.utf8.count
  }

  func run(_ stage: PlannedStage) async throws -> RunReport {
    let plan = Plan(
      name: "p", file: bench + "/p.yaml", sources: [PlannedSource(name: "texts", path: bench + "/texts")],
      stages: [stage],
      results: [PlannedResult(name: "out", references: [.output(stage: "run", output: "text")])])
    return try await Engine(store: store, executor: LocalExecutor(store: store, stages: []), jobs: 2)
      .run(plan, projectRoot: bench)
  }

  static func stage(
    _ words: [String], per: StageDeclaration.Per = .item, shell: Bool = false, value: String = ""
  ) -> PlannedStage {
    var declaration = StageDeclaration(
      name: "run", version: 1, doc: "", per: per, inputs: [InputDeclaration(name: "text", type: .lyrics)],
      outputs: [OutputDeclaration(name: "text", type: .lyrics)],
      parameters: [ParameterDeclaration(name: "value", kind: .string, standard: nil)])
    declaration.run = .command(CommandTemplate(words: words, shell: shell))
    return PlannedStage(
      name: "run", declaration: declaration, parameters: ["value": .string(value)],
      bindings: ["text": [.source("texts")]], resources: Resources())
  }
}

@Suite struct HostileNameTests {
  @Test func thereAreEnough() {
    #expect(Hostile.injections.count >= 50 && Hostile.names.count >= 100)
  }

  /// As a parameter: the program gets it as it is, as one argument; a shell as a variable.
  @Test(arguments: Hostile.injections) func aParameterIsOnlyText(_ value: String) async throws {
    let yard = try Yard()
    #expect(try yard.write(Array("a".utf8), "x"))
    let plain = Yard.stage(
      ["sh", "-c", "printf %s \"$1\" > \"$2\"/o.txt", "sh", "{params.value}", "{out.text}"], value: value)
    let report = try await yard.run(plain)
    #expect(!report.failed, "\(report.stages[0].quarantined)")
    #expect(yard.folder.text("yard/project/runs/p/out/a.txt") == value)
    let shell = Yard.stage(
      ["printf %s \"$FLOW_PARAM_VALUE\" > \"$FLOW_OUT_TEXT\"/s.txt"], shell: true, value: value)
    #expect(try await !yard.run(shell).failed)
    #expect(yard.folder.text("yard/project/runs/p/out/a.txt") == value)
    #expect(yard.strays().isEmpty && yard.canariesLive, "\(yard.strays())")
  }

  /// As names of files: each is an item of its own, whose bytes go through a program per item, a program over all, and a
  /// shell over all, and are laid out below runs/.
  @Test func aNameStaysAName() async throws {
    let yard = try Yard()
    var written = 0
    for (i, name) in Hostile.names.enumerated() where try yard.write(name, "text \(i)") { written += 1 }
    #expect(written >= 100)
    let each = try await yard.run(Yard.stage(["cp", "--", "{in.text/*}", "{out.text}/o.txt"]))
    let items = each.stages[0].items
    #expect(!each.failed && each.stages[0].quarantined.isEmpty, "\(each.stages[0].quarantined)")
    // Hidden files are skipped, as everywhere.
    let hidden = Hostile.names.count { $0.first == UInt8(ascii: ".") }
    #expect(items.total == written - hidden && items.run == items.total, "\(items)")
    let laid = each.results[0]
    #expect(laid.count == items.total, "two items became one file: \(laid.count) of \(items.total)")
    let all = try await yard.run(
      Yard.stage(["sh", "-c", "cat \"$1\"/*/* > \"$2\"/all.txt", "sh", "{in.text}", "{out.text}"], per: .all))
    #expect(!all.failed, "\(all.stages[0].failure ?? "")")
    let text = yard.folder.text("yard/project/runs/p/out/all.txt")
    #expect(text.components(separatedBy: "text ").count - 1 == items.total)
    let shell = try await yard.run(
      Yard.stage(["cat $FLOW_IN_TEXT/*/* > $FLOW_OUT_TEXT/all.txt"], per: .all, shell: true))
    #expect(!shell.failed)
    #expect(yard.strays().isEmpty && yard.canariesLive, "\(yard.strays())")
  }

  @Test(
    arguments: [[0xFF], [0xC3, 0x28], [0xED, 0xA0, 0x80], [0x61, 0x80, 0x62], [0xF0, 0x9F]] as [[UInt8]])
  func aNameThatIsNoTextIsRefused(_ name: [UInt8]) async throws {
    let yard = try Yard()
    #expect(try yard.write(name, "x") && yard.write([0x61], "y"))
    await #expect {
      try await yard.run(Yard.stage(["cp", "--", "{in.text/*}", "{out.text}/o.txt"]))
    } throws: { error in
      (error as? Diagnostics)?.all.map(\.notes) == [["its name is not UTF-8"]]
    }
  }

  @Test func twoSpellingsOfOneNameAreRefused() async throws {
    let yard = try Yard()
    #expect(try yard.write(Array("e\u{301}".utf8), "x") && yard.write(Array("\u{E9}".utf8), "y"))
    await #expect {
      try await yard.run(Yard.stage(["cp", "--", "{in.text/*}", "{out.text}/o.txt"]))
    } throws: { error in
      (error as? Diagnostics)?.all.map(\.code) == ["E032"]
    }
  }

  /// The listing of what lies under runs/ may have come with a project from elsewhere.
  @Test func aForgedListingDeletesNothing() async throws {
    let yard = try Yard()
    #expect(try yard.write(Array("a".utf8), "x"))
    let zero = String(repeating: "0", count: 64)
    try yard.folder.write(
      "yard/project/runs/p/out/.flow",
      ["../../../canary-within", yard.folder.path + "/canary-above", "a/../../../../canary-within", "..", ""]
        .map { "\(zero) \($0)\n" }.joined())
    #expect(try await !yard.run(Yard.stage(["cp", "--", "{in.text/*}", "{out.text}/o.txt"])).failed)
    #expect(yard.canariesLive)
    #expect(yard.folder.text("yard/project/runs/p/out/a.txt") == "x")
  }

  /// A manifest names what it likes as id and path.
  @Test func anIdOfAManifestLeadsNowhere() async throws {
    let yard = try Yard()
    #expect(try yard.write(Array("a".utf8), "x"))
    let ids = [
      "../../canary", "/etc/canary", "..", ".", "a/../../b", "a//b", "a/", "/", "\u{0}", "a\nb", "-rf", "~",
      "a/./b",
      String(repeating: "x", count: 5000), String(repeating: "a/", count: 500) + "b", "runs/p/out/.flow",
      ".flow",
    ]
    let lines = ids.map { JSON.object(["id": .string($0), "path": "texts/a.txt"]).canonical }
    try yard.folder.write("yard/project/texts/list.jsonl", lines.joined(separator: "\n"))
    var stage = Yard.stage(["cp", "--", "{in.text/*}", "{out.text}/o.txt"])
    stage.bindings = ["text": [.source("texts")]]
    let plan = Plan(
      name: "p", file: yard.bench + "/p.yaml",
      sources: [
        {
          var source = PlannedSource(name: "texts", path: yard.bench + "/list.jsonl")
          source.isManifest = true
          return source
        }()
      ], stages: [stage],
      results: [PlannedResult(name: "out", references: [.output(stage: "run", output: "text")])])
    try FileManager.default.moveItem(
      atPath: yard.bench + "/texts/list.jsonl", toPath: yard.bench + "/list.jsonl")
    let engine = Engine(store: yard.store, executor: LocalExecutor(store: yard.store, stages: []), jobs: 1)
    do {
      let report = try await engine.run(plan, projectRoot: yard.bench)
      #expect(report.results[0].count == report.stages[0].items.total, "two items became one file")
    } catch let error as Diagnostics { #expect(error.all.allSatisfy { $0.code == "E033" }) }
    try FileManager.default.removeItem(atPath: yard.bench + "/list.jsonl")
    #expect(yard.strays().isEmpty && yard.canariesLive, "\(yard.strays())")
  }
}
