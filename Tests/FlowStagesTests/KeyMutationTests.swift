import FlowCore
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// Every knob of every declared stage, one at a time: what changes results is in the key, what doesn't is not.
@Suite struct KeyMutationTests {
  private static let catalog = Result { try StageCatalog(loading: repositoryRoot + "/stages") }
  private static let names = ((try? catalog.get().stages.values.filter { $0.run != .pipeline }) ?? []).map(
    \.name
  )
  .sorted()

  /// A stage with all its defaults, and something where there is none.
  private func planned(_ declaration: StageDeclaration) -> PlannedStage {
    PlannedStage(
      name: "x", declaration: declaration, parameters: StageContract.values(declaration), bindings: [:],
      resources: declaration.resources)
  }

  private func inputs(_ declaration: StageDeclaration, _ content: String) -> [String: [Item]] {
    Dictionary(
      uniqueKeysWithValues: declaration.inputs.map { input in
        let file = ItemFile(name: "f", digest: Digest(of: Array((input.name + content).utf8)), size: 1)
        return (input.name, [Item(id: declaration.per == .all || input.whole ? "a" : "", files: [file])])
      })
  }

  private func key(
    _ stage: PlannedStage, _ inputs: [String: [Item]], files: [String: (path: String, digest: Digest)] = [:]
  ) -> Digest {
    Action(stage, template: Action.template(stage, files: files), inputs: inputs).key
  }

  /// Another value that the parameter may have.
  private func other(_ value: JSON, _ kind: ParameterDeclaration.Kind) -> JSON? {
    switch (kind, value) {
    case (.bool, .bool(let value)): .bool(!value)
    case (.int(let low, let high), .int(let value)): value < (high ?? .max) ? .int(value + 1) : .int(low ?? 0)
    case (.float(let low, let high), .double(let value)):
      value.nextUp <= (high ?? .infinity) ? .double(value.nextUp) : .double(low ?? 0)
    case (.string, .string(let text)): .string(text + "x")
    case (.choice(let choices), _): choices.first { .string($0) != value }.map { .string($0) }
    case (.ints, .array(let values)): .array(values + [.int(1)])
    case (.floats, .array(let values)): .array(values + [.double(1)])
    case (.strings, .array(let values)): .array(values + [.string("x")])
    default: nil
    }
  }

  @Test(arguments: names) func everyKnobIsInTheKeyIfAndOnlyIfItChangesResults(_ name: String) throws {
    let declaration = try #require(try KeyMutationTests.catalog.get()[name])
    let stage = planned(declaration)
    let inputs = inputs(declaration, "1")
    let base = key(stage, inputs)
    var misses = 0
    func expectMiss(_ what: String, _ other: Digest) {
      #expect(other != base, "\(what) is not in the key")
      misses += 1
    }
    for parameter in declaration.parameters {
      if case .file = parameter.kind {
        let one = key(stage, inputs, files: [parameter.name: ("/a", Digest(of: [1]))])
        let two = key(stage, inputs, files: [parameter.name: ("/a", Digest(of: [2]))])
        let moved = key(stage, inputs, files: [parameter.name: ("/b", Digest(of: [1]))])
        #expect((one != two) == parameter.affectsResult && one == moved, "\(parameter.name)")
        continue
      }
      var edited = stage
      let value = try #require(stage.parameters[parameter.name])
      guard let changed: JSON = other(value, parameter.kind) else {
        Issue.record("no other value for \(parameter.name)")
        continue
      }
      edited.parameters[parameter.name] = changed
      if parameter.name == StageDeclaration.precision {
        // The CPU computes alike whatever it says; a GPU doesn't.
        #expect(key(edited, inputs) == base)
        var onDevice = stage
        onDevice.parameters[StageDeclaration.device] = .string("cuda")
        edited.parameters[StageDeclaration.device] = .string("cuda")
        #expect(key(edited, inputs) != key(onDevice, inputs), "precision is not in the key of a GPU's result")
      } else if parameter.affectsResult {
        expectMiss(parameter.name, key(edited, inputs))
      } else {
        #expect(key(edited, inputs) == base, "\(parameter.name) affects nothing, but is in the key")
      }
    }
    for input in declaration.inputs {
      var edited = inputs
      edited[input.name] = self.inputs(declaration, "2")[input.name]
      expectMiss("the content of \(input.name)", key(stage, edited))
      edited[input.name]?[0] = Item(id: "a", files: inputs[input.name]?[0].files ?? [], attributes: ["x": 1])
      expectMiss("an attribute of \(input.name)", key(stage, edited))
    }
    var edited = stage
    edited.declaration.version += 1
    expectMiss("the version", key(edited, inputs))
    edited = stage
    edited.declaration.name += "x"
    expectMiss("the stage", key(edited, inputs))
    edited = stage
    edited.declaration.outputs.append(OutputDeclaration(name: "another", type: .files))
    expectMiss("the outputs", key(edited, inputs))
    edited = stage
    edited.declaration.run = .command(CommandTemplate(words: ["a"]))
    let command = key(edited, inputs)
    expectMiss("the command", command)
    edited.declaration.run = .command(CommandTemplate(words: ["a"], environment: ["A": "1"]))
    #expect(key(edited, inputs) != command, "the declared environment is not in the key")
    #expect(misses >= 5)
    let silent: [(inout PlannedStage) -> Void] = [
      { $0.name = "y" }, { $0.resources.cpu += 1 }, { $0.resources.memory += 1 }, { $0.resources.gpu += 1 },
      { $0.resources.tokens["disk"] = 1 }, { $0.declaration.resources.cpu += 1 },
      { $0.retries = [.other: 3] },
      { $0.timeout = 5 }, { $0.retain = .pin }, { $0.onError = .fail }, { $0.declaration.doc = "else" },
      { $0.declaration.gate = $0.declaration.gate == nil ? .license : nil },
      { $0.location = SourceLocation(file: "f", line: 1, column: 1) },
    ]
    for (i, change) in silent.enumerated() {
      var edited = stage
      change(&edited)
      #expect(key(edited, inputs) == base, "knob \(i) is in the key")
    }
  }
}
