public import FlowCore
public import FlowPlan
import FlowStageKit
import FlowStore

extension Engine {
  /// Why `stage`, or one of its items, would run: reasons from its last result to now; none when it is up to date. And the
  /// key of the item's action (of the first, when none is named), when what it takes is known.
  /// - Throws: `Diagnostics` when there is no such stage or item, or a source is missing.
  public func why(_ plan: Plan, stage: String, item: String?) throws -> (reasons: [Reason], key: Digest?) {
    guard plan.stage(stage) != nil else {
      throw Diagnostics([
        Diagnostic(
          code: "E022", "there is no stage '\(stage)' in this pipeline",
          help: DidYouMean.hint(stage, among: plan.stages.map(\.name), what: "stage"))
      ])
    }
    let world = try World(plan, store: store, processor: processor, accelerator: accelerator)
    let plan = world.licensed(plan)
    let assessment = Assessment(
      store: store, world: world, manifest: PipelineManifest(store, pipeline: plan.name))
    var reports: [String: StageReport] = [:]
    for step in plan.stages {
      if let denied = assessment.denied(step, plan.licenses, reports) {
        reports[step.name] = denied
        if step.name == stage {
          throw Diagnostics([denied.denial ?? Diagnostic(code: "E050", denied.failure ?? "licences deny it")])
        }
        continue
      }
      let open = step.upstream.filter { reports[$0]?.outputs == nil }
      if step.name == stage, !open.isEmpty { return ([.upstreamMayChange(open)], nil) }
      guard open.isEmpty else { continue }
      let inputs = world.inputs(step, reports)
      let verdict = assessment.assess(step, inputs)
      reports[step.name] = verdict.report
      guard step.name == stage else { continue }
      let template = world.template(step)
      let units = Unit.all(step, inputs.mapValues(\.items))
      guard let item else {
        let first = units.min { $0.item < $1.item }
        return (
          verdict.report.reasons, first.map { Action(step, template: template, inputs: $0.inputs).key }
        )
      }
      guard let unit = units.first(where: { $0.item == item }) else {
        throw Diagnostics([
          Diagnostic(
            code: "E022", "stage '\(stage)' has no item '\(item)'",
            help: step.declaration.per == .all
              ? "it is one action over all items; leave the item out"
              : DidYouMean.hint(item, among: units.map(\.item), what: "item"))
        ])
      }
      let action = Action(step, template: template, inputs: unit.inputs)
      return (assessment.reasons(step, action, item), action.key)
    }
    return ([.noRecord], nil)
  }
}

extension Assessment {
  /// Why one action would run.
  fileprivate func reasons(_ stage: PlannedStage, _ action: Action, _ item: String) -> [Reason] {
    if store.record(action.key) != nil { return [] }
    // From its own last result, whichever of the kept generations has one.
    for manifest in self.manifest.stages[stage.name] ?? [] {
      guard let entry = self.manifest.units(manifest)?.first(where: { $0.item == item }),
        let before = store.preimage(entry.key)
      else { continue }
      let difference = Reason.difference(before, action.preimage)
      return difference.isEmpty ? [.outputMissing] : difference
    }
    return [self.manifest.stages[stage.name] == nil ? .noRecord : .newItems([item])]
  }
}
