import FlowCore
import FlowPlan
import FlowStageKit
import Foundation
import Testing

@testable import FlowEngine
@testable import FlowStore

@Suite struct KeyTests {
  /// Keys are part of every cache that people keep: this one must not change by accident.
  @Test func aKnownActionHasItsKnownKey() {
    let stage = PlannedStage(
      name: "x", declaration: Bench.upper, parameters: ["suffix": "!", "victim": "v"],
      bindings: ["text": [.source("texts")]], resources: Resources())
    let item = Item(id: "", files: [ItemFile(name: "source.txt", digest: Digest(of: "hello"), size: 5)])
    let action = Action(stage, template: Action.template(stage, files: [:]), inputs: ["text": [item]])
    #expect(
      action.preimage
        == #"{"inputs":{"text":[{"files":{"source.txt":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}]},"numeric":"blas","outputs":["text"],"parameters":{"suffix":"!"},"stage":"upper","version":1}"#
    )
    #expect(action.key.hex == "bd156d55ee2becacac442ef916b94dcd73db4dae6e98f12697c96a328eeb4883")
  }

  @Test func everyPartOfAnActionIsInItsKey() {
    var keys = Set<Digest>()
    let item = Item(id: "i", files: [ItemFile(name: "t.txt", digest: Digest(of: "1"), size: 1)])
    func add(_ change: (inout PlannedStage, inout Item) -> Void) {
      var stage = PlannedStage(
        name: "x", declaration: Bench.join, parameters: ["stop": false], bindings: [:], resources: Resources()
      )
      var changed = item
      change(&stage, &changed)
      keys.insert(
        Action(stage, template: Action.template(stage, files: [:]), inputs: ["texts": [changed]]).key)
    }
    add { _, _ in }
    add { stage, _ in stage.declaration.version = 2 }
    add { stage, _ in stage.declaration.name = "other" }
    add { stage, _ in stage.parameters["stop"] = true }
    add { stage, _ in stage.parameters["stop"] = .int(0) }
    add { stage, _ in stage.declaration.outputs.append(OutputDeclaration(name: "more", type: .report)) }
    add { _, item in item.id = "j" }
    add { _, item in item.attributes["license"] = "CC0-1.0" }
    add { _, item in item.files[0].name = "u.txt" }
    add { _, item in item.files[0].digest = Digest(of: "2") }
    add { _, item in item.files.append(ItemFile(name: "v.txt", digest: Digest(of: "1"), size: 1)) }
    #expect(keys.count == 11)
  }
}
