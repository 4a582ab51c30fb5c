import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// Two sources through a stage each, joined by a gated stage that gets the licence of the whole.
@Suite struct LicenseGateTests {
  private static let stages = [
    """
    stage: clean
    version: 1
    per: item
    run: command
    command: [cp, "{in.text/*}", "{out.text}/t.txt"]
    inputs: { text: { type: lyrics } }
    outputs: { text: { type: lyrics } }
    """,
    """
    stage: pack
    version: 1
    per: all
    run: command
    gate: license
    command: [sh, -c, "echo \\"$1\\" > \\"$2\\"/license.txt", sh, "{params.license}", "{out.files}"]
    inputs: { text: { type: lyrics } }
    outputs: { files: { type: files } }
    params: { license: { type: string, default: NOASSERTION } }
    """,
  ]

  private let project: DeclaredProject
  private var folder: TemporaryFolder { project.folder }

  init() throws {
    project = try DeclaredProject()
    try folder.write("one/a.txt", "a")
    try folder.write("one/b.txt", "b")
    try folder.write("two/c.txt", "c")
    try folder.write(
      "list.jsonl",
      #"{"id": "d", "path": "two/c.txt", "license": "CC-BY-4.0", "author": "D. Singer"}"# + "\n"
        + #"{"id": "e", "path": "one/a.txt"}"# + "\n")
  }

  private func text(_ one: String, _ licenses: String, two: String = "{ path: two, license: MIT }") -> String
  {
    """
    flow: 1
    \(licenses.isEmpty ? "" : "licenses: { allow: [\(licenses)] }")
    sources:
      one: { path: one, license: \(one), author: [A. Poet, B. Poet] }
      two: \(two)
    stages:
      clean: { in: { text: one } }
      other: { uses: clean, in: { text: two } }
      pack: { in: { text: [clean.text, other.text] } }
      after: { uses: clean, in: { text: clean.text } }
    outputs: { packed: pack.files, clean: clean.text }
    """
  }

  private func run(_ text: String, _ overrides: [String] = []) async throws -> RunReport {
    let plan = try project.plan(text, stages: LicenseGateTests.stages, overrides: overrides)
    let assessed = try project.engine.assess(plan)
    let report = try await project.run(plan)
    #expect(assessed.denied == report.denied, "plan says it before")
    return report
  }

  private func summary(_ report: RunReport) -> String {
    report.stages.map { "\($0.name):\($0.state.rawValue)" }.joined(separator: " ")
  }

  @Test func whatIsAllowedIsMadeWithItsLicenceAndAttribution() async throws {
    let report = try await run(text("CC0-1.0", "MIT, CC0-1.0"))
    #expect(!report.denied && !report.failed)
    #expect(folder.text("runs/p/packed/license.txt") == "CC0-1.0 AND MIT\n")
    let attribution = folder.text("runs/p/packed/ATTRIBUTION.md")
    #expect(attribution.contains("| one | CC0-1.0 | 2 | A. Poet, B. Poet |\n| two | MIT | 1 | not said |\n"))
    #expect(folder.read("runs/p/clean/ATTRIBUTION.md") == nil)
    #expect(folder.text("p.lock.yaml").contains("license: \"CC0-1.0 AND MIT\""))
  }

  @Test(arguments: [
    ("CC-BY-NC-4.0", "MIT, CC0-1.0", "CC-BY-NC-4.0"), ("CC0-1.0", "CC0-1.0", "MIT"), ("MIT", "", "MIT"),
    ("MIT AND CC-BY-NC-4.0", "MIT", "CC-BY-NC-4.0"),
  ])
  func whatIsNotListedIsNotMade(_ one: String, _ allow: String, _ refused: String) async throws {
    let report = try await run(text(one, allow))
    #expect(summary(report) == "clean:done other:done pack:denied after:done")
    #expect(report.denied && !report.failed)
    let denial = try #require(report.stages[2].denial)
    #expect(denial.code == "E050" && denial.message.contains("doesn't allow \(refused)"))
    #expect(denial.help?.contains(refused) == true)
    #expect(folder.read("runs/p/packed/license.txt") == nil)
    #expect(folder.text("runs/p/clean/a.txt") == "a")
    #expect(!folder.text("p.lock.yaml").contains("  pack:"))
  }

  @Test func theMessageNamesItemsLicenceAndWay() async throws {
    let report = try await run(text("CC-BY-NC-4.0", "MIT"))
    #expect(
      report.stages[2].denial?.notes == [
        "CC-BY-NC-4.0: 2 items of source 'one' (a, b), through clean -> pack"
      ])
    let silent = try await run(text("MIT", "MIT", two: "{ path: two }"))
    #expect(
      silent.stages[2].denial?.notes == ["no licence said: 1 item of source 'two' (c), through other -> pack"]
    )
    #expect(try await !run(text("MIT", "MIT, NOASSERTION", two: "{ path: two }")).denied)
  }

  /// A licence is in no key but that of the gated stage.
  @Test func anotherLicenceRunsTheGatedStageAlone() async throws {
    _ = try await run(text("CC0-1.0", "MIT, CC0-1.0, ISC"))
    let report = try await run(text("ISC", "MIT, CC0-1.0, ISC"))
    #expect(summary(report) == "clean:cached other:cached pack:done after:cached")
    #expect(folder.text("runs/p/packed/license.txt") == "ISC AND MIT\n")
    #expect(
      summary(try await run(text("CC0-1.0", "MIT, CC0-1.0")))
        == "clean:cached other:cached pack:cached after:cached")
    // Denied and allowed again: nothing is lost.
    #expect(try await run(text("CC0-1.0", "MIT")).denied)
    #expect(
      summary(try await run(text("CC0-1.0", "MIT, CC0-1.0")))
        == "clean:cached other:cached pack:cached after:cached")
  }

  @Test func anItemOfAManifestHasALicenceOfItsOwn() async throws {
    let two = "{ manifest: list.jsonl, license: MIT }"
    let report = try await run(text("CC0-1.0", "MIT, CC0-1.0", two: two))
    #expect(
      report.stages[2].denial?.notes == ["CC-BY-4.0: 1 item of source 'two' (d), through other -> pack"])
    _ = try await run(text("CC0-1.0", "MIT, CC0-1.0, CC-BY-4.0", two: two))
    #expect(folder.text("runs/p/packed/ATTRIBUTION.md").contains("| two | CC-BY-4.0 | 1 | D. Singer |"))
    // Its licence is in no item's key.
    try folder.write(
      "list.jsonl", folder.text("list.jsonl").replacingOccurrences(of: "CC-BY-4.0", with: "ISC"))
    let changed = try await run(text("CC0-1.0", "MIT, CC0-1.0, ISC", two: two))
    #expect(summary(changed) == "clean:cached other:cached pack:done after:cached")
    try folder.write("list.jsonl", #"{"id": "d", "path": "two/c.txt", "license": "CC-BUY"}"# + "\n")
    await #expect {
      try await self.run(self.text("MIT", "MIT", two: two))
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E033" && hit?.location?.line == 1
    }
  }

  /// The licence that the text says is of the text's songs, not of those that --set names.
  @Test func anotherFolderHasNotTheLicenceOfTheFirst() async throws {
    let own = ["sources.one.path=\(folder.path)/two"]
    #expect(try await run(text("CC0-1.0", "MIT, CC0-1.0"), own).denied)
    #expect(try await !run(text("CC0-1.0", "MIT, CC0-1.0, NOASSERTION"), own).denied)
    #expect(folder.text("runs/p/packed/license.txt") == "MIT AND NOASSERTION\n")
  }

  @Test func whatTakesFromADeniedStageIsNotMadeEither() async throws {
    let more = text("ISC", "MIT").replacingOccurrences(
      of: "  after:", with: "  last: { uses: keep, in: { files: pack.files } }\n  after:")
    let keep = """
      stage: keep
      version: 1
      per: item
      run: command
      command: [cp, "{in.files/*}", "{out.files}/f"]
      inputs: { files: { type: files } }
      outputs: { files: { type: files } }
      """
    let report = try await project.run(project.plan(more, stages: LicenseGateTests.stages + [keep]))
    #expect(summary(report) == "clean:done other:done pack:denied last:denied after:done")
  }
}
