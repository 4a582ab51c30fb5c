import FlowCore
import FlowStageKit

extension Resolver {
  private static let stageKeys = [
    "uses", "in", "with", "resources", "on_error", "matrix", "when", "retry", "timeout", "retain",
  ]

  mutating func stage(
    _ entry: StageEntry, _ declarations: [String: StageDeclaration], _ sources: Set<String>
  ) -> PlannedStage? {
    guard let declaration = declarations[entry.name] else { return nil }
    let (name, keyNode, node) = (entry.base, entry.keyNode, entry.node)
    var parts: [String: DocumentNode] = [:]
    var elsewhere: [String: String] = [:]
    for parameter in declaration.parameters { elsewhere[parameter.name] = "under 'with'" }
    for input in declaration.inputs where elsewhere[input.name] == nil {
      elsewhere[input.name] = "under 'in'"
    }
    for (key, _, value) in reader.members(
      node, of: "stage '\(name)'", allowed: Resolver.stageKeys, elsewhere: elsewhere)
    { parts[key] = value }

    let bindings = self.bindings(parts["in"], name, keyNode, declaration, declarations, sources, entry.cell)
    let values = self.values(parts["with"], name, keyNode, declaration, entry.cell)
    var stage = PlannedStage(
      name: entry.name, declaration: declaration, parameters: values, bindings: bindings,
      resources: Values.resources(&reader, parts["resources"], standard: declaration.resources),
      onError: reader.choice(parts["on_error"], "on_error", PlannedStage.OnError.skip),
      location: reader.location(keyNode))
    stage.retain = reader.choice(parts["retain"], "retain", PlannedStage.Retain.lru)
    stage.timeout = parts["timeout"].flatMap { reader.seconds($0, "'timeout'") }
    for (key, _, value) in reader.members(
      parts["retry"], of: "'retry' of stage '\(name)'", allowed: FailureCause.allCases.map(\.rawValue))
    {
      if case .int(let count) = value.json, (0...100).contains(count), let cause = FailureCause(rawValue: key)
      {
        stage.retries[cause] = count
      } else {
        reader.fail("E014", "'\(key)' must be a whole number from 0 to 100", value)
      }
    }
    return stage
  }

  private mutating func bindings(
    _ node: DocumentNode?, _ name: String, _ keyNode: DocumentNode, _ declaration: StageDeclaration,
    _ declarations: [String: StageDeclaration], _ sources: Set<String>, _ cell: MatrixCell?
  ) -> [String: [Reference]] {
    var bindings: [String: [Reference]] = [:]
    for (port, _, value) in reader.members(
      node, of: "'in' of stage '\(name)'", allowed: declaration.inputs.map(\.name))
    {
      guard let input = declaration.inputs.first(where: { $0.name == port }) else { continue }
      if value.elements?.isEmpty ?? false, !input.optional {
        reader.fail(
          "E021", "stage '\(name)' needs the input '\(port)' (\(input.type.rawValue)), and the list is empty",
          value)
      }
      let before = reader.problems.count
      let found = references(value, declarations, sources, cell)
      for reference in found { check(reference, input, declarations, value) }
      if found.isEmpty, reader.problems.count == before, !input.optional, value.elements?.isEmpty != true {
        reader.fail(
          "E028", "stage '\(name)' needs '\(port)', and what it takes from is left out by its 'when'", value,
          help: "give this stage the same 'when'")
      }
      if !found.isEmpty { bindings[port] = found }
    }
    for input in declaration.inputs where !input.optional && node?[input.name] == nil {
      reader.fail(
        "E021", "stage '\(name)' needs the input '\(input.name)' (\(input.type.rawValue))", node ?? keyNode,
        help: "in: { \(input.name): STAGE.OUTPUT }")
    }
    return bindings
  }

  private mutating func values(
    _ node: DocumentNode?, _ name: String, _ keyNode: DocumentNode, _ declaration: StageDeclaration,
    _ cell: MatrixCell?
  ) -> [String: JSON] {
    var values: [String: JSON] = [:]
    for (key, _, value) in reader.members(
      node, of: "'with' of stage '\(name)'", allowed: declaration.parameters.map(\.name))
    {
      guard let parameter = declaration.parameters.first(where: { $0.name == key }) else { continue }
      let before = reader.problems.count
      let raw = substituted(value, cell)
      // A reference that was not found is one mistake, not also a wrong type.
      guard reader.problems.count == before else { continue }
      if raw == .null, parameter.standard == .null {
        values[key] = .null
        continue
      }
      switch Values.typed(raw, parameter) {
      case .success(let typed): values[key] = typed
      case .failure(let wrong):
        reader.fail(
          wrong.range ? "E018" : "E014", "'\(key)' of stage '\(name)' \(wrong.text)", value,
          label: parameter.unit.isEmpty ? nil : "in \(parameter.unit)")
      }
    }
    for parameter in declaration.parameters where values[parameter.name] == nil {
      if let standard = parameter.standard {
        values[parameter.name] = standard
      } else if node?[parameter.name] == nil {
        reader.fail(
          "E015", "stage '\(name)' needs the parameter '\(parameter.name)'", node ?? keyNode,
          help: parameter.doc)
      }
    }
    return values
  }

  /// What `node` (a reference, or a list of them) refers to; those to stages that are left out are dropped.
  mutating func references(
    _ node: DocumentNode, _ declarations: [String: StageDeclaration], _ sources: Set<String>,
    _ cell: MatrixCell?
  ) -> [Reference] {
    (node.elements ?? [node]).flatMap { element -> [Reference] in
      guard reader.text(element, "a reference") != nil, let text = substituted(element, cell).text else {
        return []
      }
      return reference(text, element, declarations, sources)
    }
  }

  private mutating func reference(
    _ text: String, _ node: DocumentNode, _ declarations: [String: StageDeclaration], _ sources: Set<String>
  ) -> [Reference] {
    // A cell's name may hold dots: 'train[rate=0.1].weights'.
    let closing = text.lastIndex(of: "]")
    guard let dot = text[(closing ?? text.startIndex)...].firstIndex(of: ".") else {
      if sources.contains(text) { return [.source(text)] }
      let all = sources.sorted() + declarations.flatMap { name, d in d.outputs.map { "\(name).\($0.name)" } }
      reader.fail(
        "E022", "there is no source '\(text)'", node, label: DidYouMean.hint(text, among: all, what: "source")
      )
      return []
    }
    let (name, output) = (String(text[..<dot]), String(text[text.index(after: dot)...]))
    let cells = self.cells[name]
    let first = cells?.first.map { "\(name)[\($0.label)]" } ?? name
    guard let declaration = declarations[first] else {
      if !absent.contains(name) {
        reader.fail(
          "E022", "there is no stage '\(name)' in this pipeline", node,
          label: DidYouMean.hint(name, among: Set(declarations.keys).union(self.cells.keys), what: "stage"))
      }
      return []
    }
    guard declaration.outputs.contains(where: { $0.name == output }) else {
      reader.fail(
        "E022", "stage '\(name)' has no output '\(output)'", node,
        label: DidYouMean.hint(output, among: declaration.outputs.map(\.name), what: "output"))
      return []
    }
    guard let cells else { return [.output(stage: name, output: output)] }
    return cells.map { .cell(stage: "\(name)[\($0.label)]", output: output, label: $0.label) }
  }

  private mutating func check(
    _ reference: Reference, _ input: InputDeclaration, _ declarations: [String: StageDeclaration],
    _ node: DocumentNode
  ) {
    guard let (stage, output) = reference.origin else {
      if input.type.sourceExtensions.isEmpty {
        reader.fail(
          "E023", "a source can't give '\(input.name)', which is of type \(input.type.rawValue)", node)
      }
      return
    }
    guard let type = declarations[stage]?.outputs.first(where: { $0.name == output })?.type,
      type != input.type,
      input.type != .files
    else { return }
    if input.type == .audio, [.stems, .samples].contains(type) { return }
    let place = node.elements?.first { $0.text == reference.description } ?? node
    reader.fail(
      "E023", "'\(input.name)' takes \(input.type.rawValue), but \(reference) is \(type.rawValue)", place)
  }
}
