import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// One action of a stage: its item and what it takes.
struct Unit: Sendable {
  var item: String
  var inputs: [String: [Item]]

  /// The digest of what goes in.
  var digest: Digest {
    var hasher = SHA256()
    for (port, items) in inputs.sorted(by: { $0.key < $1.key }) {
      hasher.field("port", port.utf8)
      for item in items {
        hasher.field("item", item.id.utf8)
        for file in item.files {
          hasher.field("file", file.name.utf8)
          hasher.update(file.digest)
        }
        if !item.attributes.isEmpty {
          hasher.field("attributes", JSON.object(item.attributes).canonical.utf8)
        }
      }
    }
    return hasher.finish()
  }

  /// The actions of a stage: per item those in all its required inputs that aren't whole, else one over all.
  static func all(_ stage: PlannedStage, _ inputs: [String: [Item]]) -> [Unit] {
    guard stage.declaration.per == .item else { return [Unit(item: "", inputs: inputs)] }
    let own = stage.declaration.inputs.filter { !$0.whole && inputs[$0.name] != nil }
    let required = own.filter { !$0.optional }
    guard let first = (required.isEmpty ? own : required).first else {
      return [Unit(item: "", inputs: inputs)]
    }
    var indexed: [String: [String: Item]] = [:]
    for input in own where input.name != first.name {
      indexed[input.name] = Dictionary(
        (inputs[input.name] ?? []).map { ($0.id, $0) }, uniquingKeysWith: { a, _ in a })
    }
    var result: [Unit] = []
    for item in inputs[first.name] ?? [] {
      var mine = inputs
      var isWhole = true
      for input in own {
        var match = input.name == first.name ? item : indexed[input.name]?[item.id]
        if match == nil, !input.optional { isWhole = false }
        match?.id = ""
        mine[input.name] = match.map { [$0] }
      }
      if isWhole { result.append(Unit(item: item.id, inputs: mine)) }
    }
    return result
  }
}

/// Finds out what of a plan is known already. One for all: what a thousand stages read later holds it, not a copy each.
final class Assessment: Sendable {
  let store: Store
  let world: World
  let manifest: PipelineManifest
  /// Records that are on their way into the store.
  let arriving: [Digest: ActionRecord]

  init(
    store: Store, world: World, manifest: PipelineManifest, arriving: [Digest: ActionRecord] = [:]
  ) {
    self.store = store
    self.world = world
    self.manifest = manifest
    self.arriving = arriving
  }

  /// What the assessment of one stage came to: the report, and what is left to run.
  struct Verdict {
    var report: StageReport
    /// Every unit in order, with its entry when it is known.
    var units: [(unit: Unit, digest: Digest, entry: UnitEntry?)] = []
  }

  /// The digest of a stage with its inputs.
  static func digest(_ template: Digest, _ inputs: [String: Artifact]) -> Digest {
    var hasher = SHA256()
    hasher.field("flow-stage/1", "".utf8)
    hasher.update(template)
    for (port, artifact) in inputs.sorted(by: { $0.key < $1.key }) {
      hasher.field("port", port.utf8)
      hasher.update(artifact.tree.digest)
    }
    return hasher.finish()
  }

  /// The report of a stage that licences keep from being made, or that takes from one; `nil` for all others.
  func denied(_ stage: PlannedStage, _ policy: LicensePolicy, _ reports: [String: StageReport])
    -> StageReport?
  {
    var report = StageReport(name: stage.name, state: .denied)
    if let provenance = world.provenance[stage.name], !provenance.isAllowed {
      let denial = provenance.diagnostic(stage, policy)
      report.denial = denial
      report.failure = ([denial.message] + denial.notes).joined(separator: "; ")
    } else if let from = stage.upstream.first(where: { reports[$0]?.state == .denied }) {
      report.failure = "stage '\(from)', which it takes from, is not made"
    } else {
      return nil
    }
    return report
  }

  /// Assesses a stage whose inputs are known.
  func assess(_ stage: PlannedStage, _ inputs: [String: Artifact]) -> Verdict {
    let template = world.template(stage)
    let digest = Assessment.digest(template.digest, inputs)
    var report = StageReport(name: stage.name, state: .cached)
    report.digest = digest
    report.template = template.digest
    report.inputs = inputs.mapValues(\.tree)
    if let known = manifest.find(stage.name, digest) {
      let units = Units { [self] in
        manifest.units(known) ?? self.units(stage, template, inputs, before: []).compactMap(\.entry)
      }
      report.fill(stage, known, units)
      return Verdict(report: report)
    }
    let earlier = manifest.stages[stage.name]?.first { $0.template == template.digest }
    let before = earlier.flatMap(manifest.units) ?? []
    let units = units(stage, template, inputs, before: before)
    let entries = units.compactMap(\.entry)
    report.items.total = units.count
    report.items.cached = entries.count
    report.items.run = units.count - entries.count
    if report.items.run == 0 {
      report.finish(stage, entries)
    } else {
      report.state = .run
      report.quarantined = entries.compactMap { unit in
        unit.rejected.map { QuarantinedItem(id: unit.item, reason: $0) }
      }
      report.items.quarantined = report.quarantined.count
      // Mostly the latest, which has been read by now.
      let latest = manifest.stages[stage.name]?.first
      let last = latest == earlier ? before : latest.flatMap(manifest.units) ?? []
      report.reasons = reasons(stage, template, units, last: last)
    }
    return Verdict(report: report, units: units)
  }

  /// The units of a stage with the entries of those that are known: from what was `before` of the same template where
  /// nothing went in anew, else from the records.
  private func units(
    _ stage: PlannedStage, _ template: Action.Template, _ inputs: [String: Artifact], before: [UnitEntry]
  ) -> [(unit: Unit, digest: Digest, entry: UnitEntry?)] {
    let places = Assessment.places(before)
    return Unit.all(stage, inputs.mapValues(\.items)).map { unit in
      let digest = unit.digest
      if let place = places[unit.item], before[place].inputs == digest {
        return (unit, digest, before[place])
      }
      let action = Action(stage, template: template, inputs: unit.inputs)
      let entry = (arriving[action.key] ?? store.record(action.key)).map {
        UnitEntry(
          item: unit.item, inputs: digest, key: action.key, rejected: $0.rejected, outputs: $0.outputs,
          metrics: $0.metrics)
      }
      return (unit, digest, entry)
    }
  }

  /// Where the entry of each item is; the first, where an item has two.
  private static func places(_ entries: [UnitEntry]) -> [String: Int] {
    var places: [String: Int] = [:]
    places.reserveCapacity(entries.count)
    for i in entries.indices.reversed() { places[entries[i].item] = i }
    return places
  }

  /// Why the units without an entry have to run, each reason once; `last` is what the stage came to last.
  private func reasons(
    _ stage: PlannedStage, _ template: Action.Template,
    _ units: [(unit: Unit, digest: Digest, entry: UnitEntry?)], last: [UnitEntry]
  ) -> [Reason] {
    let old = Assessment.places(last)
    var (fresh, reasons, looked) = ([String](), [Reason](), 0)
    for (unit, _, entry) in units where entry == nil {
      guard let place = old[unit.item] else {
        fresh.append(unit.item)
        continue
      }
      looked += 1
      // Units mostly run for the same reason; a thousand of them needn't all be asked.
      guard looked <= 8, let before = store.preimage(last[place].key) else { continue }
      let difference = Reason.difference(
        before, Action(stage, template: template, inputs: unit.inputs).preimage)
      for reason in difference.isEmpty ? [.outputMissing] : difference where !reasons.contains(reason) {
        reasons.append(reason)
      }
    }
    if !fresh.isEmpty { reasons.append(old.isEmpty ? .noRecord : .newItems(fresh)) }
    let now = Set(units.map(\.unit.item))
    let gone = old.keys.filter { !now.contains($0) }.sorted()
    if !gone.isEmpty { reasons.append(.removedItems(gone)) }
    return reasons.isEmpty ? [.noRecord] : reasons
  }
}

extension StageReport {
  /// Takes over what a manifest says.
  mutating func fill(_ stage: PlannedStage, _ known: StageManifest, _ units: Units) {
    items = ItemCounts(total: known.total, cached: known.total, run: 0, quarantined: known.quarantined.count)
    quarantined = known.quarantined
    metrics = known.metrics
    seconds = 0
    self.units = units
    let perItem = stage.declaration.per == .item
    var artifacts: [String: Artifact] = [:]
    for (port, tree) in known.outputs {
      artifacts[port] = Artifact(tree: tree) { units.items(port, perItem: perItem) }
    }
    conclude(stage, artifacts)
  }

  /// Sums up all of a stage's units.
  mutating func finish(_ stage: PlannedStage, _ entries: [UnitEntry]) {
    let units = Units(entries)
    self.units = units
    quarantined = entries.compactMap { unit in
      unit.rejected.map { QuarantinedItem(id: unit.item, reason: $0) }
    }
    items.quarantined = quarantined.count
    var sums: [String: (total: Double, count: Int)] = [:]
    for unit in entries {
      for (name, value) in unit.metrics {
        sums[name] = ((sums[name]?.total ?? 0) + value, (sums[name]?.count ?? 0) + 1)
      }
    }
    metrics = sums.mapValues { $0.total / Double($0.count) }
    let perItem = stage.declaration.per == .item
    var artifacts: [String: Artifact] = [:]
    for output in stage.declaration.outputs {
      artifacts[output.name] = Artifact(units.items(output.name, perItem: perItem))
    }
    conclude(stage, artifacts)
  }

  private mutating func conclude(_ stage: PlannedStage, _ artifacts: [String: Artifact]) {
    failure = verdict(stage)
    if failure == nil { outputs = artifacts } else { state = .failed }
  }

  /// What to say when an item was set aside where none may be, or until none was left.
  private func verdict(_ stage: PlannedStage) -> String? {
    if stage.onError == .fail, let first = quarantined.first { return "\(first.id): \(first.reason)" }
    guard items.total > 0, quarantined.count == items.total else { return nil }
    let first = quarantined.prefix(3).map { "\($0.id.isEmpty ? "all" : $0.id): \($0.reason)" }.joined(
      separator: "; ")
    return "none of \(items.total) items is left (\(first))"
  }
}
