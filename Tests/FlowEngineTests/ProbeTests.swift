import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// The nine edits on which pipeline engines are compared: two stages, `a` (the even lines of a text) and `b` (a copy of
/// them), and how many actions of each must run.
@Suite struct ProbeTests {
  private let project: DeclaredProject
  private var folder: TemporaryFolder { project.folder }

  private static let stages = [
    """
    stage: even
    version: 1
    per: all
    run: command
    command: [awk, "-v", "lr={params.lr}", "NR%2==0 { print > ENVIRON[\\"TO\\"] \\"/a.txt\\" }", "{in.text/*}"]
    env: { TO: "{out.text}" }
    inputs: { text: { type: lyrics } }
    outputs: { text: { type: lyrics } }
    params: { lr: { type: float } }
    """,
    """
    stage: copy
    version: 1
    per: all
    run: command
    command: [cp, "{in.text/*}", "{out.text}/b.txt"]
    inputs: { text: { type: lyrics } }
    outputs: { text: { type: lyrics } }
    """,
  ]

  private static let pipeline = """
    flow: 1
    params: { lr: 1, other: 1 }
    sources: { src: { path: src.txt } }
    stages:
      a: { uses: even, in: { text: src }, with: { lr: "${params.lr}" } }
      b: { uses: copy, in: { text: a.text } }
    outputs: { b: b.text, a: a.text }
    """

  init() throws {
    project = try DeclaredProject()
    try folder.write("src.txt", "1\n2\n3\n4\n")
    try folder.write("p.yaml", ProbeTests.pipeline)
  }

  /// How often `a` and `b` ran.
  private func run(stages: [String] = ProbeTests.stages) async throws -> [Int] {
    let report = try await project.run(project.plan(folder.text("p.yaml"), stages: stages))
    #expect(!report.failed, "\(report.stages.map { $0.failure ?? "" })")
    return report.stages.map { $0.state == .done ? $0.items.run : 0 }
  }

  private func edit(_ file: String, _ from: String, _ to: String) throws {
    let text = folder.text(file)
    #expect(text.contains(from))
    try folder.write(file, text.replacingOccurrences(of: from, with: to))
  }

  @Test func noChangeAndATouchRunNothing() async throws {
    #expect(try await run() == [1, 1])
    #expect(folder.text("runs/p/b/b.txt") == "2\n4\n")
    #expect(try await run() == [0, 0])
    try FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: folder.path + "/src.txt")
    #expect(try await run() == [0, 0])
  }

  @Test func anEditThatLeavesTheOutputAsItWasStopsThere() async throws {
    _ = try await run()
    try edit("src.txt", "1\n", "x\n")
    #expect(try await run() == [1, 0])
  }

  @Test func goingBackToAnEarlierInputIsFree() async throws {
    _ = try await run()
    try edit("src.txt", "2\n", "y\n")
    #expect(try await run() == [1, 1])
    try edit("src.txt", "y\n", "2\n")
    #expect(try await run() == [0, 0])
  }

  @Test func aParameterThatNobodyReadsIsFree() async throws {
    _ = try await run()
    try edit("p.yaml", "other: 1", "other: 2")
    #expect(try await run() == [0, 0])
  }

  @Test func aParameterThatChangesNoOutputStopsThere() async throws {
    _ = try await run()
    try edit("p.yaml", "lr: 1,", "lr: 2,")
    #expect(try await run() == [1, 0])
  }

  @Test func aCommentIsFree() async throws {
    _ = try await run()
    try edit("p.yaml", "stages:", "# what is done\nstages: # here")
    #expect(try await run() == [0, 0])
  }

  @Test func aBlankInACommandIsFree() async throws {
    _ = try await run()
    let spaced = ProbeTests.stages.map { $0.replacingOccurrences(of: "[cp, ", with: "[ cp,   ") }
    #expect(spaced != ProbeTests.stages)
    #expect(try await run(stages: spaced) == [0, 0])
  }

  /// The same two stages as one pipeline stage have the same keys.
  @Test func puttingThemIntoAPipelineStageIsFree() async throws {
    _ = try await run()
    let both = """
      stage: both
      run: pipeline
      inputs: { text: { type: lyrics } }
      outputs: { text: { type: lyrics, from: b.text } }
      params: { lr: { type: float } }
      stages:
        a: { uses: even, in: { text: text }, with: { lr: "${params.lr}" } }
        b: { uses: copy, in: { text: a.text } }
      """
    try folder.write(
      "p.yaml",
      """
      flow: 1
      sources: { src: { path: src.txt } }
      stages: { both: { in: { text: src }, with: { lr: 1 } } }
      outputs: { b: both.text }
      """)
    #expect(try await run(stages: ProbeTests.stages + [both]) == [0, 0])
    #expect(folder.text("p.lock.yaml").contains("  both/a:\n    stage: even@1\n"))
    try edit("p.yaml", "lr: 1", "lr: 2")
    #expect(try await run(stages: ProbeTests.stages + [both]) == [1, 0])
  }

  @Test func deletedOutputsComeBackFromTheCache() async throws {
    _ = try await run()
    try FileManager.default.removeItem(atPath: folder.path + "/runs")
    #expect(try await run() == [0, 0])
    #expect(folder.text("runs/p/b/b.txt") == "2\n4\n")
  }

  @Test func anEditOfTheSameSizeWithItsTimeRestoredIsSeen() async throws {
    _ = try await run()
    // Let the file's times grow old enough to be trusted.
    usleep(50_000)
    _ = try await run()
    let path = folder.path + "/src.txt"
    let time = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    try file.write(contentsOf: Data("1\n9\n3\n4\n".utf8))
    try file.close()
    try FileManager.default.setAttributes([.modificationDate: try #require(time)], ofItemAtPath: path)
    #expect(try await run() == [1, 1])
    #expect(folder.text("runs/p/b/b.txt") == "9\n4\n")
  }
}
