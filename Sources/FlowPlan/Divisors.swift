import FlowCore
import FlowStageKit

// A parameter may have to divide another, as a number of ranks a batch (`divides: batch` in its declaration).

extension StageCatalog {
  /// Finds parameters that are to divide what isn't a whole number among the parameters.
  static func checkDivisors(
    _ reader: inout DocumentReader, _ parameters: [ParameterDeclaration], _ node: DocumentNode?
  ) {
    let wholes = parameters.filter { if case .int = $0.kind { true } else { false } }.map(\.name)
    for parameter in parameters {
      guard let other = parameter.divides, !wholes.contains(other) || other == parameter.name else {
        continue
      }
      reader.fail(
        "E022", "'\(parameter.name)' can't divide '\(other)', which is no other whole number here",
        node?[parameter.name]?["divides"],
        label: DidYouMean.hint(other, among: wholes.filter { $0 != parameter.name }, what: "parameter"))
    }
  }
}

extension StageCatalog {
  /// Where a stage's key belongs that asks for several ranks, when it stands elsewhere.
  func placeOfRanks(_ key: String, _ declaration: StageDeclaration) -> String? {
    guard key == StageDeclaration.ranks else { return nil }
    if declaration.hasRanks { return "under 'with'" }
    let able = names.filter { self[$0]?.hasRanks ?? false }
    return "to stages that can share their work: \(able.joined(separator: ", "))"
  }
}

extension Resolver {
  /// Finds values that don't divide what they must.
  mutating func checkDivisors(
    _ values: [String: JSON], _ name: String, _ declaration: StageDeclaration, _ node: DocumentNode?,
    _ keyNode: DocumentNode
  ) {
    for parameter in declaration.parameters {
      guard let other = parameter.divides, case .int(let part)? = values[parameter.name],
        case .int(let whole)? = values[other], part > 0, whole % part != 0
      else { continue }
      reader.fail(
        "E018",
        "'\(parameter.name)' of stage '\(name)' is \(part), which doesn't divide '\(other)', \(whole)",
        node?[parameter.name] ?? node?[other] ?? keyNode,
        help: "with: { \(other): \((whole + part - 1) / part * part) }, or another '\(parameter.name)'")
    }
  }
}
