import FlowCore
import FlowStageKit

/// What a stage's text may refer to: the names of the pipeline, or those inside one use of a pipeline stage.
struct Scope: Sendable {
  /// What `in:` may name beside stages.
  struct Input: Sendable {
    /// What it stands for.
    var references: [Reference]
    /// The declared type of a pipeline stage's input; `nil` for a source, which gives what it is asked for.
    var type: ArtifactType?
  }

  /// What comes before the names of its stages in the plan: nothing, or `learn/`.
  var prefix = ""
  /// For `${params.x}`.
  var params: [String: JSON] = [:]
  /// Sources, or the inputs of the pipeline stage.
  var inputs: [String: Input] = [:]
  /// The declared stage of each entry, by its name here.
  var declarations: [String: StageDeclaration] = [:]
  /// What each output of a pipeline stage used here stands for, by the entry's name here.
  var outputs: [String: [String: [Reference]]] = [:]
  /// The cells of each stage that has a matrix, by the stage's name in the text.
  var cells: [String: [MatrixCell]] = [:]
  /// Stages that their `when` leaves out.
  var absent: Set<String> = []
  /// Settings of the pipeline stage, which its stages take over unless they have their own.
  var inherited: [String: DocumentNode] = [:]

  /// Whether this is the inside of a pipeline stage.
  var isInner: Bool { !prefix.isEmpty }
}

/// The stages of one text: the pipeline's own, or those of one use of a pipeline stage.
struct StageGroup: Sendable {
  var scope: Scope
  var entries: [StageEntry] = []
  /// The groups within, by the entry that uses a pipeline stage.
  var inner: [String: StageGroup] = [:]
}

extension Resolver {
  private static let maxNesting = 16
  private static let maxStages = 20_000

  /// The stages of a text with their declarations, and those within pipeline stages; nothing is bound yet.
  mutating func group(
    _ members: [(key: String, keyNode: DocumentNode, value: DocumentNode)], _ scope: Scope, depth: Int = 0
  ) -> StageGroup {
    let outer = self.scope
    self.scope = scope
    defer { self.scope = outer }
    var group = StageGroup(scope: scope, entries: expanded(members))
    stageCount += group.entries.count
    if stageCount > Resolver.maxStages {
      isTooMuch = true
      reader.fail("E018", "more than \(Resolver.maxStages) stages", members.first?.keyNode)
    }
    for entry in group.entries {
      let node = entry.node["uses"]
      let uses = node?.text ?? entry.base
      if let declaration = catalog[uses] {
        self.scope.declarations[entry.name] = declaration
        guard declaration.run == .pipeline, !isShallow, !isTooMuch, let body = catalog.bodies[uses] else {
          continue
        }
        let before = reader.problems.count
        reader.add(body.document)
        group.inner[entry.name] = within(entry, declaration, body, depth)
        settle(entry, before) { _ in body }
      } else if entry.isFirst {
        reader.fail(
          "E020", "there is no stage '\(uses)'", node ?? entry.keyNode,
          label: DidYouMean.hint(uses, among: catalog.names, what: "stage"), help: "'flow stages' lists all")
      }
    }
    group.scope = self.scope
    return group
  }

  /// The group inside `entry`, which uses a pipeline stage; what its outputs stand for is kept in the scope.
  private mutating func within(
    _ entry: StageEntry, _ declaration: StageDeclaration, _ body: PipelineBody, _ depth: Int
  ) -> StageGroup? {
    guard depth < Resolver.maxNesting else {
      isTooMuch = true
      reader.fail(
        "E018", "pipeline stages lie more than \(Resolver.maxNesting) deep in each other", entry.keyNode)
      return nil
    }
    var scope = Scope(prefix: self.scope.prefix + entry.name + "/")
    scope.params = values(entry.node["with"], entry.base, entry.keyNode, declaration, entry.cell)
    // One that is missing was said; inside it is not said again.
    for parameter in declaration.parameters where scope.params[parameter.name] == nil {
      scope.params[parameter.name] = parameter.sample
    }
    for input in declaration.inputs {
      scope.inputs[input.name] = Scope.Input(references: [], type: input.type)
    }
    let inner = group(reader.members(body.stages, of: "stages", allowed: nil), scope, depth: depth + 1)
    if isTooMuch { return nil }
    let outer = self.scope
    self.scope = inner.scope
    var outputs: [String: [Reference]] = [:]
    for output in declaration.outputs {
      guard let from = body.from[output.name] else { continue }
      let found = references(from, nil, takesInputs: false)
      for one in found { check(one, output.type, "the output '\(output.name)'") }
      outputs[output.name] = found.map(\.reference)
    }
    self.scope = outer
    self.scope.outputs[entry.name] = outputs
    return inner
  }

  /// The planned stages of a group, everything bound.
  mutating func planned(_ group: StageGroup) -> [PlannedStage] {
    let outer = scope
    scope = group.scope
    defer { scope = outer }
    var stages: [PlannedStage] = []
    stages.reserveCapacity(group.entries.count)
    for entry in group.entries {
      let before = reader.problems.count
      if var inner = group.inner[entry.name], let declaration = scope.declarations[entry.name] {
        bind(entry, declaration, &inner.scope)
        stages += planned(inner)
      } else if let stage = stage(entry) {
        stages.append(stage)
      }
      settle(entry, before) { $0.catalog.bodies[$0.scope.declarations[entry.name]?.name ?? ""] }
    }
    return stages
  }

  /// A mistake is said once, not for every cell of a matrix; one inside a pipeline stage says who uses it.
  private mutating func settle(_ entry: StageEntry, _ before: Int, _ body: (Resolver) -> PipelineBody?) {
    guard reader.problems.count > before else { return }
    if !entry.isFirst { return reader.problems.removeSubrange(before...) }
    guard let body = body(self), let user = reader.location(entry.keyNode) else { return }
    for i in before..<reader.problems.count where reader.problems[i].location?.file == body.document.file {
      reader.problems[i].notes.append("in stage '\(scope.prefix)\(entry.base)' (\(user.file):\(user.line))")
    }
  }

  /// Binds what `entry` gives to the inputs of the pipeline stage that it uses.
  private mutating func bind(_ entry: StageEntry, _ declaration: StageDeclaration, _ inner: inout Scope) {
    let parts = parts(entry, declaration)
    let bindings = bindings(parts["in"], entry.base, entry.keyNode, declaration, entry.cell)
    for input in declaration.inputs {
      inner.inputs[input.name] = Scope.Input(references: bindings[input.name] ?? [], type: input.type)
    }
    var pattern = PlannedStage(
      name: "", declaration: declaration, parameters: [:], bindings: [:], resources: Resources())
    let before = reader.problems.count
    settings(parts, entry.base, &pattern)
    guard reader.problems.count == before else { return }
    inner.inherited = scope.inherited.merging(parts.filter { Resolver.settingKeys.contains($0.key) }) { $1 }
  }
}

extension ParameterDeclaration {
  /// A value of the type, where none is known.
  var sample: JSON {
    switch kind {
    case .bool: .bool(true)
    case .int(let low, let high): .int(low ?? high ?? 1)
    case .float(let low, let high): .double(low ?? high ?? 1)
    case .string: .string("x")
    case .choice(let choices): .string(choices.first ?? "")
    case .ints, .floats, .strings: .array([])
    case .file: .null
    }
  }
}
