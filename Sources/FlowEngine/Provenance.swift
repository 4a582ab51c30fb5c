import FlowCore
import FlowPlan
import FlowStageKit

/// What a gated stage is made from: parts of sources, each under one licence, and whether the pipeline's `licenses` allow
/// them. No key holds any of this but that of the gated stage, as its parameter `license`.
public struct Provenance: Sendable, Hashable {
  /// Items of one source under one licence.
  public struct Part: Sendable, Hashable {
    /// The source's name.
    public var source: String
    /// An SPDX expression; `NOASSERTION` where nothing is said.
    public var license: String
    /// The items, sorted.
    public var items: [String]
    /// Who made them, sorted, as far as it is said.
    public var authors: [String]
    /// The stages on the shortest way from the source to the gated stage, that one last.
    public var way: [String]
    /// The licences that `allow` doesn't list.
    public var refused: [String]
  }

  /// By source and licence.
  public var parts: [Part]
  /// The licence of the whole: an SPDX expression.
  public var license: String

  /// Whether all of it is allowed.
  public var isAllowed: Bool { parts.allSatisfy(\.refused.isEmpty) }

  /// What must be said when it isn't: which items, which licence, through which stages, and what to do.
  func diagnostic(_ stage: PlannedStage, _ policy: LicensePolicy) -> Diagnostic {
    let refused = parts.filter { !$0.refused.isEmpty }
    let names = Set(refused.flatMap(\.refused)).sorted()
    let notes = refused.map { part in
      let items = part.items.prefix(3).joined(separator: ", ") + (part.items.count > 3 ? ", …" : "")
      let count = part.items.count == 1 ? "1 item" : "\(part.items.count) items"
      let says = part.license == LicenseExpression.unsaid ? "no licence said" : part.license
      return
        "\(says): \(count) of source '\(part.source)' (\(items)), through \(part.way.joined(separator: " -> "))"
    }
    let allow = (policy.allow.union(names)).sorted().joined(separator: ", ")
    return Diagnostic(
      code: "E050",
      "stage '\(stage.name)' is not made: 'licenses' doesn't allow \(names.joined(separator: ", "))",
      at: stage.location, notes: notes,
      help:
        "if you may, write licenses: { allow: [\(allow)] } at the top of the pipeline; else take the items out, or run with --to the stage before"
    )
  }

  /// The text that lies beside what was made.
  func attribution(_ stage: String, pipeline: String) -> String {
    func cell(_ text: String) -> String {
      String(text.map { $0.isNewline || $0 == "|" || $0 == "\0" ? " " : $0 })
    }
    var text = """
      # Attribution

      What `\(stage)` of the pipeline `\(pipeline)` was made from. Licence of the whole: `\(license)`

      | source | licence | items | authors |
      |---|---|---|---|

      """
    for part in parts {
      let authors = part.authors.isEmpty ? "not said" : part.authors.map(cell).joined(separator: ", ")
      let license = part.license == LicenseExpression.unsaid ? "not said (NOASSERTION)" : part.license
      text += "| \(part.source) | \(license) | \(part.items.count) | \(authors) |\n"
    }
    return text
  }
}

/// What a source says of an item's licence and author; it is no part of the item.
struct Rights: Sendable, Hashable {
  var license: String?
  var authors: [String] = []
}

extension World {
  /// What each gated stage of `plan` is made from.
  static func provenance(
    _ plan: Plan, items: (_ source: String, _ type: ArtifactType) -> [String],
    rights: [String: [String: Rights]]
  ) -> [String: Provenance] {
    guard plan.stages.contains(where: { $0.declaration.gate == .license }) else { return [:] }
    let sources = Dictionary(plan.sources.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    let stages = Dictionary(plan.stages.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    var result: [String: Provenance] = [:]
    for gated in plan.stages where gated.declaration.gate == .license {
      // From the gated stage upwards, the nearest first.
      var (ways, queue, at) = ([gated.name: [gated.name]], [gated.name], 0)
      var found: [String: (items: Set<String>, way: [String])] = [:]
      while at < queue.count {
        guard let stage = stages[queue[at]], let way = ways[stage.name] else { break }
        at += 1
        for input in stage.declaration.inputs {
          for reference in stage.bindings[input.name] ?? [] {
            if case .source(let name) = reference {
              let ids = items(name, input.type)
              if !ids.isEmpty { found[name, default: ([], way)].items.formUnion(ids) }
            } else if let from = reference.origin?.stage, ways[from] == nil {
              ways[from] = [from] + way
              queue.append(from)
            }
          }
        }
      }
      var parts: [Provenance.Part] = []
      for (name, (ids, way)) in found.sorted(by: { $0.key < $1.key }) {
        let source = sources[name]
        var byLicense: [String: (items: [String], authors: Set<String>)] = [:]
        for id in ids.sorted() {
          let own = rights[name]?[id]
          let license = own?.license ?? source?.license ?? LicenseExpression.unsaid
          byLicense[license, default: ([], [])].items.append(id)
          let authors = own.map(\.authors) ?? []
          byLicense[license]?.authors.formUnion(authors.isEmpty ? source?.authors ?? [] : authors)
        }
        for (license, part) in byLicense.sorted(by: { $0.key < $1.key }) {
          let refused = (try? LicenseExpression(license))?.refused(allow: plan.licenses.allow) ?? [license]
          parts.append(
            Provenance.Part(
              source: name, license: license, items: part.items, authors: part.authors.sorted(), way: way,
              refused: refused))
        }
      }
      let expressions = parts.compactMap { try? LicenseExpression($0.license) }
      result[gated.name] = Provenance(parts: parts, license: "\(LicenseExpression.joined(expressions))")
    }
    return result
  }

  /// The plan with the joined licence as the parameter `license` of gated stages that have one and were not given another.
  func licensed(_ plan: Plan) -> Plan {
    var plan = plan
    for i in plan.stages.indices {
      guard let provenance = provenance[plan.stages[i].name],
        plan.stages[i].parameters["license"]?.text == LicenseExpression.unsaid
      else { continue }
      plan.stages[i].parameters["license"] = .string(provenance.license)
    }
    return plan
  }
}
