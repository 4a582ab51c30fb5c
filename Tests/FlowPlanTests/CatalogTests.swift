import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

@Suite struct CatalogTests {
  private static let good = """
    stage: f0
    version: 3
    doc: Pitch.
    per: item
    run: native
    inputs:
      audio: { type: audio, doc: The voice. }
      truth: { type: f0, optional: true }
    outputs:
      f0: { type: f0 }
    params:
      fmax: { type: float, default: 1000, min: 20, max: 20000, unit: Hz, doc: Highest. }
      mode: { type: choice, choices: [fast, exact], default: exact }
      quiet: { type: bool, default: false, affects: nothing }
    resources: { cpu: 0, memory: 2GiB }
    """

  @Test func aDeclarationIsRead() throws {
    let (found, problems) = StageCatalog.parse(file: "f0.yaml", text: CatalogTests.good)
    #expect(problems.isEmpty)
    let stage = try #require(found)
    #expect(stage.name == "f0" && stage.version == 3 && stage.per == .item)
    #expect(stage.inputs.map(\.optional) == [false, true])
    #expect(stage.parameters.map(\.standard) == [.double(1000), .string("exact"), .bool(false)])
    #expect(stage.parameters.map(\.affectsResult) == [true, true, false])
    #expect(stage.resources == Resources(cpu: 0, memory: 2 << 30))
  }

  @Test(arguments: [
    ("version: 3", "version: 0", "E014"), ("per: item", "per: song", "E014"),
    ("type: audio", "type: adio", "E014"),
    ("min: 20,", "min: twenty,", "E014"), ("min: 20,", "min: 90000,", "E014"),
    ("default: exact }", "default: exakt }", "E014"), ("affects: nothing", "affects: nothin", "E014"),
    ("optional: true", "optional: perhaps", "E014"), ("choices: [fast, exact]", "choices: []", "E015"),
    ("unit: Hz", "unti: Hz", "E011"), ("per: item\n", "", "E015"), ("stage: f0", "stage: ../f0", "E019"),
    ("doc: The voice. }", "doc: Voice; any rate, mono. }", "E011"),
  ])
  func aMistakeInADeclarationIsSaid(_ from: String, _ to: String, _ code: String) {
    #expect(CatalogTests.good.contains(from))
    let text = CatalogTests.good.replacingOccurrences(of: from, with: to)
    let problems = StageCatalog.parse(file: "f0.yaml", text: text).1
    #expect(problems.contains { $0.code == code && $0.location != nil }, "\(problems)")
  }

  @Test func aFileIsNamedAfterItsStage() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("flow-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(CatalogTests.good.utf8).write(to: folder.appendingPathComponent("pitch.yaml"))
    #expect { try StageCatalog(loading: folder.path) } throws: { error in
      (error as? Diagnostics)?.all.map(\.code) == ["E026"]
    }
  }
}
