public import FlowCore
import FlowStageKit

/// A resolved value of a pipeline, and where it was said.
public struct Setting: Sendable, Hashable {
  /// Such as `stages.f0.with.fmax`.
  public var path: String
  /// What it came to.
  public var value: JSON
  /// Where it stands: in the pipeline, in one that it extends, in a stage's declaration, or in `--set`; `nil` for what
  /// nobody has said.
  public var place: SourceLocation?
}

extension Resolver {
  /// Every resolved value of a pipeline, in the order of the plan.
  /// - Throws: `Diagnostics` with every mistake, as `plan`.
  public static func settings(
    file: String, text: String, catalog: StageCatalog, overrides: [String] = [],
    load: (String) throws -> String = FileText.document
  ) throws -> [Setting] {
    var resolver = Resolver(reader: DocumentReader(file: file, text: text), catalog: catalog)
    resolver.noted = []
    let plan = try resolver.resolve(overrides, load)
    guard let plan, resolver.reader.problems.isEmpty else {
      // The same mistakes in the same order as everywhere.
      _ = try Resolver.plan(file: file, text: text, catalog: catalog, overrides: overrides, load: load)
      return []
    }
    let order = Dictionary(
      plan.stages.enumerated().map { ("stages.\($1.name).", $0) }, uniquingKeysWith: { $1 })
    func rank(_ path: String) -> Int {
      guard path.hasPrefix("stages.") else { return -1 }
      return order.first { path.hasPrefix($0.key) }?.value ?? 0
    }
    return (resolver.noted ?? []).map { (rank($0.path), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
  }

  /// Notes what a pipeline says at its top.
  mutating func note(_ parts: [String: DocumentNode]) {
    guard noted != nil else { return }
    if let name = parts["name"] { note("name", name.json, name) }
    for member in parts["params"]?.members ?? [] {
      note("params.\(member.name)", member.value.json, member.value)
    }
    for source in parts["sources"]?.members ?? [] {
      for field in source.value.members ?? [] {
        note("sources.\(source.name).\(field.name)", substituted(field.value), field.value)
      }
    }
    for limit in parts["limits"]?.members ?? [] {
      note("limits.\(limit.name)", limit.value.json, limit.value)
    }
  }

  /// Notes what a stage came to.
  mutating func note(_ stage: PlannedStage, _ parts: [String: DocumentNode]) {
    guard noted != nil else { return }
    for parameter in stage.declaration.parameters {
      let node = parts["with"]?[parameter.name]
      noted?.append(
        Setting(
          path: "stages.\(stage.name).with.\(parameter.name)",
          value: stage.parameters[parameter.name] ?? .null,
          place: node.map { reader.location($0) } ?? parameter.location))
    }
    for key in Resolver.settingKeys {
      guard let node = parts[key] ?? scope.inherited[key] else { continue }
      note("stages.\(stage.name).\(key)", node.json, node)
    }
  }

  private mutating func note(_ path: String, _ value: JSON, _ node: DocumentNode) {
    noted?.append(Setting(path: path, value: value, place: reader.location(node)))
  }
}
