public import FlowCore
public import FlowPlan
public import FlowStore

/// What a plan stands on: the actions whose keys can be told, and the objects that their results name.
public struct Trace: Sendable {
  /// Keys of actions that have a result.
  public internal(set) var keys: Set<Digest> = []
  /// Objects of their outputs.
  public internal(set) var objects: Set<Digest> = []
  /// Records that `fetch` gave.
  public internal(set) var fetched: [Digest: ActionRecord] = [:]
  /// Stages with something that is still to be run, or that wait for such a stage.
  public internal(set) var open: [String] = []
}

extension Engine {
  /// Follows the plan from its sources on. What a stage takes is known once those before it have results, so `fetch` is
  /// asked in rounds, a round for all stages that can be looked at: which of these actions have a record elsewhere?
  /// - Throws: `Diagnostics` when a source or a file parameter is missing; what `fetch` throws.
  public func trace(_ plan: Plan, fetch: ([Digest]) throws -> [Digest: ActionRecord] = { _ in [:] }) throws
    -> Trace
  {
    let world = try World(plan, store: store, processor: processor, accelerator: accelerator)
    let plan = world.licensed(plan)
    var assessment = Assessment(
      store: store, world: world, manifest: PipelineManifest(store, pipeline: plan.name))
    var (trace, reports) = (Trace(), [String: StageReport]())
    var rest = plan.stages
    while true {
      for stage in rest {
        guard let denied = assessment.denied(stage, plan.licenses, reports) else { continue }
        reports[stage.name] = denied
        trace.open.append(stage.name)
      }
      rest.removeAll { reports[$0.name] != nil }
      let round = rest.filter { $0.upstream.allSatisfy { reports[$0]?.outputs != nil } }
      if round.isEmpty { break }
      rest.removeAll { stage in round.contains { $0.name == stage.name } }
      var verdicts = round.map { assessment.assess($0, world.inputs($0, reports)) }
      var wanted: [Digest] = []
      for (stage, verdict) in zip(round, verdicts) {
        let template = world.template(stage)
        for unit in verdict.units where unit.entry == nil {
          wanted.append(Action(stage, template: template, inputs: unit.unit.inputs).key)
        }
      }
      if !wanted.isEmpty {
        let found = try fetch(wanted)
        trace.fetched.merge(found) { $1 }
        assessment = Assessment(
          store: store, world: world, manifest: assessment.manifest, arriving: trace.fetched)
        if !found.isEmpty { verdicts = round.map { assessment.assess($0, world.inputs($0, reports)) } }
      }
      for (stage, verdict) in zip(round, verdicts) {
        reports[stage.name] = verdict.report
        if verdict.report.outputs == nil { trace.open.append(stage.name) }
        for entry in verdict.report.units?.entries ?? verdict.units.compactMap(\.entry) {
          trace.keys.insert(entry.key)
          for items in entry.outputs.values {
            trace.objects.formUnion(items.flatMap { $0.files.map(\.digest) })
          }
        }
      }
    }
    trace.open += rest.map(\.name)
    world.stats.save()
    return trace
  }
}
