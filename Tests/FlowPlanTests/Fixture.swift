import FlowCore
import FlowStageKit
import Testing

@testable import FlowPlan

/// Two declared stages to plan with.
enum Fixture {
  static let catalog = StageCatalog([
    StageDeclaration(
      name: "tune", version: 1, doc: "", per: .item,
      inputs: [
        InputDeclaration(name: "audio", type: .audio),
        InputDeclaration(name: "truth", type: .stems, optional: true),
      ],
      outputs: [OutputDeclaration(name: "audio", type: .audio), OutputDeclaration(name: "f0", type: .f0)],
      parameters: [
        ParameterDeclaration(
          name: "fmax", kind: .float(min: 20, max: 20_000), standard: .double(1000), unit: "Hz"),
        ParameterDeclaration(name: "hop", kind: .int(min: 1, max: 4096), standard: .int(512)),
        ParameterDeclaration(name: "mode", kind: .choice(["fast", "exact"]), standard: .string("exact")),
        ParameterDeclaration(name: "on", kind: .bool, standard: .bool(true)),
        ParameterDeclaration(name: "range", kind: .floats(min: 0, max: 9), standard: .array([.double(1)])),
        ParameterDeclaration(
          name: "chatty", kind: .int(min: nil, max: nil), standard: .int(0), affectsResult: false),
      ]),
    StageDeclaration(
      name: "train", version: 2, doc: "", per: .all,
      inputs: [InputDeclaration(name: "audio", type: .audio)],
      outputs: [OutputDeclaration(name: "weights", type: .weights)],
      parameters: [ParameterDeclaration(name: "steps", kind: .int(min: 1, max: nil), standard: nil)]),
  ])

  static let good = """
    flow: 1
    params: { seed: 7, low: 500 }
    sources:
      songs: { path: songs, license: CC0-1.0 }
    stages:
      tune:
        in: { audio: songs }
        with: { fmax: 900 }
      train:
        in: { audio: tune.audio }
        with: { steps: "${params.seed}" }
    outputs: { weights: train.weights }
    """

  static func plan(_ text: String, _ overrides: [String] = []) throws -> Plan {
    try Resolver.plan(file: "dir/p.yaml", text: text, catalog: catalog, overrides: overrides)
  }

  /// The mistakes of a text that must have some.
  static func mistakes(_ text: String, _ overrides: [String] = []) -> [Diagnostic] {
    do {
      _ = try plan(text, overrides)
      return []
    } catch let error as Diagnostics { return error.all } catch {
      Issue.record("not diagnostics: \(error)")
      return []
    }
  }
}
