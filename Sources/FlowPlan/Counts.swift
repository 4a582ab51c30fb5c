import FlowCore
import FlowStageKit

// A list may have an element for each of what is bound to an input, as weights of data sets (`each: latents` in its
// declaration).

extension StageCatalog {
  /// Finds lists that are to have an element for each of what is bound to something that isn't an input.
  static func checkCounts(
    _ reader: inout DocumentReader, _ declaration: StageDeclaration, _ node: DocumentNode?
  ) {
    let inputs = declaration.inputs.map(\.name)
    for parameter in declaration.parameters {
      guard let input = parameter.each, !inputs.contains(input) else { continue }
      reader.fail(
        "E022", "'\(parameter.name)' can't have an element for each of '\(input)', which is no input here",
        node?[parameter.name]?["each"], label: DidYouMean.hint(input, among: inputs, what: "input"))
    }
  }
}

extension Resolver {
  /// Finds lists with more or fewer elements than what they are for.
  mutating func checkCounts(_ stage: PlannedStage, _ node: DocumentNode?, _ keyNode: DocumentNode) {
    for parameter in stage.declaration.parameters {
      guard let input = parameter.each, case .array(let values)? = stage.parameters[parameter.name],
        !values.isEmpty
      else { continue }
      let count = stage.bindings[input]?.count ?? 0
      guard values.count != count else { continue }
      reader.fail(
        "E018",
        "'\(parameter.name)' of stage '\(stage.name)' has \(values.count) values, and '\(input)' takes from \(count)",
        node?[parameter.name] ?? keyNode,
        help: "a value for each of what 'in: { \(input): [...] }' lists, in that order")
    }
  }
}
