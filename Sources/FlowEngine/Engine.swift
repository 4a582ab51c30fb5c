import FlowCore
public import FlowPlan
import FlowStageKit
public import FlowStore
import Foundation

/// Assesses and runs plans over a store.
public struct Engine: Sendable {
  /// The store.
  public let store: Store
  let executor: any Executor
  let jobs: Int
  let observe: @Sendable (RunEvent) -> Void

  /// An engine on `jobs` threads in all; `observe` gets events from many threads.
  public init(
    store: Store, executor: any Executor, jobs: Int,
    observe: @escaping @Sendable (RunEvent) -> Void = { _ in }
  ) {
    self.store = store
    self.executor = executor
    self.jobs = max(1, jobs)
    self.observe = observe
  }

  /// Asks the running actions to stop.
  public func cancel() { executor.cancel() }

  /// Says what a run would do, without doing it.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing.
  public func assess(_ plan: Plan) throws -> RunReport {
    let start = Date()
    let world = try World(plan, store: store)
    let assessment = Assessment(
      store: store, world: world, manifest: PipelineManifest(store, pipeline: plan.name))
    var reports: [String: StageReport] = [:]
    for stage in plan.stages {
      let open = stage.upstream.filter { reports[$0]?.outputs == nil }
      if open.isEmpty {
        reports[stage.name] = assessment.assess(stage, world.inputs(stage, reports)).report
      } else {
        var report = StageReport(name: stage.name, state: .mayRun)
        report.reasons = [.upstreamMayChange(open)]
        report.items.total = assessment.manifest.stages[stage.name]?.first?.total ?? 0
        report.items.run = report.items.total
        reports[stage.name] = report
      }
      reports[stage.name]?.expectedSeconds = assessment.manifest.stages[stage.name]?.first?.seconds
    }
    world.stats.save()
    return RunReport(
      stages: plan.stages.compactMap { reports[$0.name] }, seconds: Date().timeIntervalSince(start))
  }

  /// Brings every stage up to date, writes the lock file, and lays out the results.
  /// - Parameters:
  ///   - projectRoot: where `runs/` lies.
  ///   - only: the stages that are looked at, all when `nil`; blocks of others stay in the lock file as they are.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing; `StoreError` when the lock file or the results
  ///   can't be written.
  public func run(_ whole: Plan, projectRoot: String, only: Set<String>? = nil) async throws -> RunReport {
    var plan = whole
    if let only { plan.stages.removeAll { !only.contains($0.name) } }
    let start = Date()
    let world = try World(plan, store: store)
    var manifest = PipelineManifest(store, pipeline: plan.name)
    let assessment = Assessment(store: store, world: world, manifest: manifest)
    let registry = Registry()
    let reports = await schedule(plan, assessment, registry)
    world.stats.save()
    let ordered = plan.stages.compactMap { reports[$0.name] }
    for report in ordered where report.state != .failed || report.units != nil {
      try report.save(&manifest)
    }
    try manifest.save(names: Set(whole.stages.map(\.name)))
    var result = RunReport(stages: ordered, seconds: 0)
    result.interrupted = ordered.contains { $0.failure == Engine.interruption }
    result.lockFile = try LockFile.write(whole, ordered, store: store)
    let runner = ActionRunner(engine: self, world: world, registry: registry)
    result.results = try await Results.lay(plan, reports, runner: runner, root: projectRoot)
    if !result.failed { release(plan, reports) }
    result.seconds = Date().timeIntervalSince(start)
    return result
  }

  /// Whether the lock file is what a run that finds everything as in `report` would write.
  public func lockIsCurrent(_ plan: Plan, _ report: RunReport) -> Bool {
    FileBytes.read(LockFile.path(plan)).map { String(decoding: $0, as: UTF8.self) }
      == LockFile.text(plan, report.stages, old: "")
  }

  static let interruption = "interrupted"

  /// Drops the bytes of outputs that are kept `until-consumed`, unless another stage or a result has the same bytes. Their
  /// records stay: what is gone is made again if it is ever needed.
  private func release(_ plan: Plan, _ reports: [String: StageReport]) {
    let released = plan.stages.filter { $0.retain == .untilConsumed }
    guard !released.isEmpty else { return }
    func digests(_ stage: PlannedStage) -> Set<Digest> {
      Set(
        (reports[stage.name]?.outputs ?? [:]).values.flatMap { $0.items.flatMap { $0.files.map(\.digest) } })
    }
    var kept = Set<Digest>()
    for stage in plan.stages where stage.retain != .untilConsumed { kept.formUnion(digests(stage)) }
    for result in plan.results {
      for case let (stage, port)? in result.references.map(\.origin) {
        for item in reports[stage]?.outputs?[port]?.items ?? [] { kept.formUnion(item.files.map(\.digest)) }
      }
    }
    for stage in released { for digest in digests(stage).subtracting(kept) { store.remove(digest) } }
  }
}

extension StageReport {
  /// Puts what the stage came to into the pipeline's manifest.
  fileprivate func save(_ manifest: inout PipelineManifest) throws(StoreError) {
    guard let units, let digest, let template, manifest.stages[name]?.first?.digest != digest else { return }
    let entries = units.entries
    // A unit that failed has no entry: the stage is not known as a whole then.
    guard entries.count == items.total else { return }
    let (bytes, blob) = PipelineManifest.encode(entries)
    let known = StageManifest(
      digest: digest, template: template, total: items.total, quarantined: quarantined, metrics: metrics,
      inputs: inputs, outputs: (outputs ?? [:]).mapValues(\.tree),
      seconds: seconds > 0 ? seconds : manifest.stages[name]?.first?.seconds ?? 0, units: blob)
    try manifest.put(name, known, units: bytes)
  }
}
