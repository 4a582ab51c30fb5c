import FlowCore
import FlowStageKit

extension Resolver {
  private static let stageKeys = ["uses", "in", "with", "matrix", "when"] + settingKeys
  /// What a pipeline stage hands on to its stages.
  static let settingKeys: [String] = ["resources", "on_error", "retry", "timeout", "retain"]

  /// The members of a stage's text, keys checked.
  mutating func parts(_ entry: StageEntry, _ declaration: StageDeclaration) -> [String: DocumentNode] {
    let catalog = catalog
    func elsewhere(_ key: String) -> String? {
      if declaration.parameters.contains(where: { $0.name == key }) { return "under 'with'" }
      if declaration.inputs.contains(where: { $0.name == key }) { return "under 'in'" }
      return catalog.placeOfRanks(key, declaration)
    }
    var parts: [String: DocumentNode] = [:]
    for (key, _, value) in reader.members(
      entry.node, of: "stage '\(entry.base)'", allowed: Resolver.stageKeys, elsewhere: elsewhere)
    { parts[key] = value }
    return parts
  }

  mutating func stage(_ entry: StageEntry) -> PlannedStage? {
    guard let declaration = scope.declarations[entry.name] else { return nil }
    let parts = parts(entry, declaration)
    var stage = PlannedStage(
      name: scope.prefix + entry.name, declaration: declaration,
      parameters: values(parts["with"], entry.base, entry.keyNode, declaration, entry.cell),
      bindings: bindings(parts["in"], entry.base, entry.keyNode, declaration, entry.cell),
      resources: declaration.resources, location: reader.location(entry.keyNode))
    settings(scope.inherited, entry.base, &stage)
    settings(parts, entry.base, &stage)
    checkCounts(stage, parts["with"], entry.keyNode)
    note(stage, parts)
    checkTokens(
      stage, parts["resources"]?["tokens"] ?? scope.inherited["resources"]?["tokens"] ?? entry.keyNode)
    return stage
  }

  /// Finds tokens that the pipeline's `limits` don't have, or have too few of.
  private mutating func checkTokens(_ stage: PlannedStage, _ node: DocumentNode) {
    guard let limits else { return }
    for (name, count) in stage.resources.tokens.sorted(by: { $0.key < $1.key }) {
      let place = node.members?.first { $0.name == name }
      guard let limit = limits.tokens[name] else {
        reader.fail(
          "E022", "stage '\(stage.name)' uses '\(name)', and 'limits' doesn't say how many there are",
          place?.key ?? node, label: DidYouMean.hint(name, among: limits.tokens.keys, what: "limit"),
          help: "limits: { \(name): 1 } at the top of the pipeline, or --limit \(name)=1")
        continue
      }
      guard count > limit else { continue }
      reader.fail(
        "E018", "stage '\(stage.name)' uses \(count) of '\(name)', and 'limits' has \(limit)",
        place?.value ?? node)
    }
  }

  /// Reads the settings that are no part of a key.
  mutating func settings(_ parts: [String: DocumentNode], _ name: String, _ stage: inout PlannedStage) {
    guard Resolver.settingKeys.contains(where: { parts[$0] != nil }) else { return }
    stage.resources = Values.resources(&reader, parts["resources"], standard: stage.resources)
    stage.onError = reader.choice(parts["on_error"], "on_error", stage.onError)
    stage.retain = reader.choice(parts["retain"], "retain", stage.retain)
    if let node = parts["timeout"] { stage.timeout = reader.seconds(node, "'timeout'") }
    for (key, _, value) in reader.members(
      parts["retry"], of: "'retry' of stage '\(name)'", allowed: FailureCause.allCases.map(\.rawValue))
    {
      if let count = DocumentReader.whole(value.json), (0...100).contains(count),
        let cause = FailureCause(rawValue: key)
      {
        stage.retries[cause] = count
      } else {
        reader.fail("E014", "'\(key)' must be a whole number from 0 to 100", value)
      }
    }
  }

  mutating func bindings(
    _ node: DocumentNode?, _ name: String, _ keyNode: DocumentNode, _ declaration: StageDeclaration,
    _ cell: MatrixCell?
  ) -> [String: [Reference]] {
    var bindings: [String: [Reference]] = [:]
    for (port, _, value) in reader.members(
      node, of: "'in' of stage '\(name)'", allowed: declaration.inputs.map(\.name))
    {
      guard let input = declaration.inputs.first(where: { $0.name == port }), value.json != .null else {
        continue
      }
      if value.elements?.isEmpty ?? false, !input.optional {
        reader.fail(
          "E021", "stage '\(name)' needs the input '\(port)' (\(input.type.rawValue)), and the list is empty",
          value)
      }
      let before = reader.problems.count
      let found = references(value, cell)
      for one in found { check(one, input.type, "'\(input.name)'") }
      if found.isEmpty, reader.problems.count == before, !input.optional, value.elements?.isEmpty != true {
        reader.fail(
          "E028", "stage '\(name)' needs '\(port)', and what it takes from is not there", value,
          label: scope.isInner ? "left out by its 'when', or not bound" : "left out by its 'when'",
          help: "give this stage the same 'when'")
      }
      if !found.isEmpty { bindings[port] = found.map(\.reference) }
    }
    for input in declaration.inputs
    where !input.optional && node?[input.name].map({ $0.json == .null }) ?? true {
      reader.fail(
        "E021", "stage '\(name)' needs the input '\(input.name)' (\(input.type.rawValue))", node ?? keyNode,
        help: "in: { \(input.name): STAGE.OUTPUT }")
    }
    return bindings
  }

  mutating func values(
    _ node: DocumentNode?, _ name: String, _ keyNode: DocumentNode, _ declaration: StageDeclaration,
    _ cell: MatrixCell?
  ) -> [String: JSON] {
    var values: [String: JSON] = [:]
    let catalog = catalog
    for (key, _, value) in reader.members(
      node, of: "'with' of stage '\(name)'", allowed: declaration.parameters.map(\.name),
      elsewhere: { catalog.placeOfRanks($0, declaration) })
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
    checkDivisors(values, name, declaration, node, keyNode)
    return values
  }

  /// Something that a text refers to: its type (`nil` for a source) and where it is written.
  struct Found {
    var reference: Reference
    var type: ArtifactType?
    var node: DocumentNode
  }

  /// What `node` (a reference, or a list of them) refers to; those to stages that are left out are dropped.
  mutating func references(_ node: DocumentNode, _ cell: MatrixCell?, takesInputs: Bool = true) -> [Found] {
    (node.elements ?? [node]).flatMap { element -> [Found] in
      guard reader.text(element, "a reference") != nil, let text = substituted(element, cell).text else {
        return []
      }
      return reference(text, element, takesInputs)
    }
  }

  private mutating func reference(_ text: String, _ node: DocumentNode, _ takesInputs: Bool) -> [Found] {
    // A cell's name may hold dots: 'train[rate=0.1].weights'.
    let closing = text.lastIndex(of: "]")
    guard let dot = text[(closing ?? text.startIndex)...].firstIndex(of: ".") else {
      if takesInputs, let input = scope.inputs[text] {
        return input.references.map { Found(reference: $0, type: input.type, node: node) }
      }
      let inputs = takesInputs ? scope.inputs.keys.sorted() : []
      let all = inputs + scope.declarations.flatMap { name, d in d.outputs.map { "\(name).\($0.name)" } }
      let what = scope.isInner && takesInputs ? "input" : "source"
      reader.fail(
        "E022", takesInputs ? "there is no \(what) '\(text)'" : "'\(text)' is not STAGE.OUTPUT", node,
        label: DidYouMean.hint(text, among: all, what: what))
      return []
    }
    let (name, output) = (String(text[..<dot]), String(text[text.index(after: dot)...]))
    let cells = scope.cells[name]
    let first = cells?.first.map { "\(name)[\($0.label)]" } ?? name
    guard let declaration = scope.declarations[first] else {
      if !scope.absent.contains(name) {
        let names = Set(scope.declarations.keys).union(scope.cells.keys)
        reader.fail(
          "E022", "there is no stage '\(name)' \(scope.isInner ? "here" : "in this pipeline")", node,
          label: DidYouMean.hint(name, among: names, what: "stage"))
      }
      return []
    }
    guard let type = declaration.outputs.first(where: { $0.name == output })?.type else {
      reader.fail(
        "E022", "stage '\(name)' has no output '\(output)'", node,
        label: DidYouMean.hint(output, among: declaration.outputs.map(\.name), what: "output"))
      return []
    }
    let found =
      cells.map { $0.flatMap { given("\(name)[\($0.label)]", output, label: $0.label) } }
      ?? given(name, output, label: nil)
    return found.map { Found(reference: $0, type: type, node: node) }
  }

  /// What an output of an entry of this scope is in the plan; `label` is that of the entry's cell.
  private func given(_ name: String, _ output: String, label: String?) -> [Reference] {
    let found =
      scope.outputs[name].map { $0[output] ?? [] } ?? [.output(stage: scope.prefix + name, output: output)]
    guard let label else { return found }
    return found.map { reference in
      switch reference {
      case .source: reference
      case .output(let stage, let output): .cell(stage: stage, output: output, label: label)
      case .cell(let stage, let output, let inner):
        .cell(stage: stage, output: output, label: "\(label)/\(inner)")
      }
    }
  }

  /// Says so when what was found can't be taken as `wanted`.
  mutating func check(_ found: Found, _ wanted: ArtifactType, _ what: String) {
    guard let type = found.type else {
      if wanted.sourceExtensions.isEmpty {
        reader.fail("E023", "a source can't give \(what), which is of type \(wanted.rawValue)", found.node)
      }
      return
    }
    guard type != wanted, wanted != .files else { return }
    if wanted == .audio, [.stems, .samples].contains(type) { return }
    reader.fail(
      "E023", "\(what) takes \(wanted.rawValue), but \(found.node.text ?? "this") is \(type.rawValue)",
      found.node)
  }
}
