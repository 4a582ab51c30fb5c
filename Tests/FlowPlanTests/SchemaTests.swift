import FlowCore
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowPlan

/// The examples of `Tests/Examples`: what flow says of each is what is written there, and so does an independent validator of
/// the schemas that flow prints.
@Suite struct SchemaTests {
  struct Example: Sendable, CustomTestStringConvertible {
    var kind: String
    var code: String
    var name: String
    var text: String
    var testDescription: String { "\(kind) \(code) \(name)" }
  }

  static func examples(_ file: String) -> [Example] {
    let path = "\(repositoryRoot)/Tests/Examples/\(file)"
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    return text.components(separatedBy: "\n### ").dropFirst().map { part in
      let lines = part.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
      let words = lines[0].split(separator: " ").map(String.init)
      return Example(
        kind: words[0], code: words.count > 2 ? words[1] : "", name: words[words.count - 1],
        text: lines.count > 1 ? String(lines[1]) + "\n" : "")
    }
  }

  private static let accepted = examples("stages.txt").filter { $0.kind == "accept" }
  private static let catalog = Result {
    try StageCatalog(parsing: accepted.map { ("\($0.name).yaml", $0.text) })
  }

  private func codes(_ body: () throws -> Void) -> [String] {
    do {
      try body()
      return []
    } catch { return (error as? Diagnostics)?.all.map(\.code) ?? ["\(error)"] }
  }

  @Test(arguments: examples("stages.txt")) func aDeclarationIsTakenOrRefused(_ example: Example) throws {
    let others = SchemaTests.accepted.filter { $0.name != example.name }.map { ("\($0.name).yaml", $0.text) }
    let found = codes { _ = try StageCatalog(parsing: others + [("\(example.name).yaml", example.text)]) }
    #expect(example.kind == "accept" ? found.isEmpty : found.contains(example.code), "\(found)")
  }

  @Test(arguments: examples("pipelines.txt")) func aPipelineIsTakenOrRefused(_ example: Example) throws {
    let catalog = try SchemaTests.catalog.get()
    let found = codes { _ = try Resolver.plan(file: "p.yaml", text: example.text, catalog: catalog) }
    #expect(example.kind == "accept" ? found.isEmpty : found.contains(example.code), "\(found)")
  }

  @Test func anIndependentValidatorAgrees() throws {
    let count = ["stages.txt", "pipelines.txt"].reduce(0) { $0 + SchemaTests.examples($1).count }
    #expect(count >= 100)
    let candidates = [[repositoryRoot + "/.build/schema-check/bin/python"], ["/usr/bin/env", "python3"]]
    let python = candidates.first { (try? run($0 + ["-c", "import jsonschema, yaml"]))?.code == 0 }
    guard let python else {
      return print("skipped: no python3 with jsonschema and PyYAML; scripts/schema-check makes one")
    }
    let folder = try TemporaryFolder()
    let catalog = try SchemaTests.catalog.get()
    try folder.write("pipelines.json", PipelineSchema.document(catalog).pretty)
    try folder.write("stages.json", StageSchema.document(catalog).pretty)
    let script = repositoryRoot + "/scripts/schema-check"
    let result = try run(python + [script, folder.path + "/pipelines.json", folder.path + "/stages.json"])
    #expect(result.code == 0, "\(result.text)")
  }

  /// What is in git is what flow prints: editors read it from a fresh clone.
  @Test(arguments: ["pipeline", "stage"]) func theSchemasInGitAreCurrent(_ name: String) throws {
    let catalog = try StageCatalog(loading: repositoryRoot + "/stages")
    let document = name == "stage" ? StageSchema.document(catalog) : PipelineSchema.document(catalog)
    let text = try String(contentsOfFile: "\(repositoryRoot)/schemas/\(name).json", encoding: .utf8)
    #expect(text == document.pretty + "\n", "run 'swift run flow schema --write' and commit schemas/")
  }

  @Test func everyPipelineSaysWhereItsSchemaIs() throws {
    let folder = repositoryRoot + "/pipelines"
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(".yaml") && !name.hasSuffix(".lock.yaml") {
      let text = try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
      #expect(text.hasPrefix("# yaml-language-server: $schema=../schemas/pipeline.json\n"), "\(name)")
    }
  }

  private func run(_ words: [String]) throws -> (code: Int32, text: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: words[0])
    process.arguments = Array(words.dropFirst())
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self))
  }
}
