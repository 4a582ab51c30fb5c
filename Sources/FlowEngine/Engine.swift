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
  let capacity: Capacity
  let observe: @Sendable (RunEvent) -> Void
  /// Whether stages that don't need one that failed are started all the same.
  public var keepGoing = false
  /// The class of processor that matrix products run on: part of the keys of stages whose numbers depend on it.
  public var processor = ""
  /// The class of the CUDA devices that so many ranks of a stage get, if there are any, likewise; the stage says `device: cuda`
  /// or `auto`.
  public var accelerator: @Sendable (_ device: String, _ ranks: Int) -> String? = { _, _ in nil }

  /// An engine that hands out `capacity`; `observe` gets events from many threads.
  public init(
    store: Store, executor: any Executor, capacity: Capacity,
    observe: @escaping @Sendable (RunEvent) -> Void = { _ in }
  ) {
    self.store = store
    self.executor = executor
    self.capacity = capacity
    self.observe = observe
  }

  /// An engine on `jobs` threads, with memory without bound and no GPU.
  public init(
    store: Store, executor: any Executor, jobs: Int,
    observe: @escaping @Sendable (RunEvent) -> Void = { _ in }
  ) {
    self.init(store: store, executor: executor, capacity: Capacity(threads: jobs), observe: observe)
  }

  /// Asks the running actions to stop.
  public func cancel() { executor.cancel() }

  /// Says what a run would do, without doing it.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing.
  public func assess(_ plan: Plan) throws -> RunReport {
    let start = Date()
    let world = try World(plan, store: store, processor: processor, accelerator: accelerator)
    let plan = world.licensed(plan)
    let assessment = Assessment(
      store: store, world: world, manifest: PipelineManifest(store, pipeline: plan.name))
    let reports = assess(plan, assessment)
    world.stats.save()
    var report = RunReport(
      stages: plan.stages.compactMap { reports[$0.name] }, seconds: Date().timeIntervalSince(start))
    report.forecast = Forecast(plan, reports, capacity.limited(plan))
    return report
  }

  private func assess(_ plan: Plan, _ assessment: Assessment) -> [String: StageReport] {
    var reports: [String: StageReport] = [:]
    for stage in plan.stages {
      let open = stage.upstream.filter { reports[$0]?.outputs == nil }
      var report: StageReport
      if let denied = assessment.denied(stage, plan.licenses, reports) {
        report = denied
      } else if open.isEmpty {
        report = assessment.assess(stage, assessment.world.inputs(stage, reports)).report
      } else {
        report = StageReport(name: stage.name, state: .mayRun)
        report.reasons = [.upstreamMayChange(open)]
        report.items.total = assessment.manifest.stages[stage.name]?.first?.total ?? 0
        report.items.run = report.items.total
      }
      report.expect(stage, assessment.manifest.stages[stage.name]?.first)
      reports[stage.name] = report
    }
    return reports
  }

  /// Every stage that has to run finds the GPUs that it needs.
  /// - Throws: `Diagnostics`.
  private func checkDevices(_ plan: Plan, _ assessment: Assessment) throws {
    let needy = plan.stages.filter { $0.gpus(capacity) > capacity.gpus.count }
    guard !needy.isEmpty else { return }
    let reports = assess(plan, assessment)
    let problems = needy.filter { [.run, .mayRun].contains(reports[$0.name]?.state) }.map { stage in
      let count = stage.gpus(capacity)
      return Diagnostic(
        code: "E035",
        "stage '\(stage.name)' needs \(count == 1 ? "a GPU" : "\(count) GPUs")\(stage.resources.gpu == 0 && count > 1 ? ", one for each rank" : ""), and there \(capacity.gpus.isEmpty ? "is none" : capacity.gpus.count == 1 ? "is one" : "are \(capacity.gpus.count)")",
        at: stage.location, notes: ["looked at --gpus, CUDA_VISIBLE_DEVICES, /dev/nvidia*"],
        help: "run it where there is one, name them with --gpus 0,1, or leave the stage out with --to")
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
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
    store.sweep()
    Scratch.sweep(store.root + "/tmp/scratch")
    let lease = store.lease(plan.name)
    defer { withExtendedLifetime(lease) {} }
    let world = try World(plan, store: store, processor: processor, accelerator: accelerator)
    plan = world.licensed(plan)
    for (name, provenance) in world.provenance.sorted(by: { $0.key < $1.key }) where !provenance.isAllowed {
      observe(.warning(stage: name, "will not be made: its licences are not allowed"))
    }
    var manifest = PipelineManifest(store, pipeline: plan.name)
    let assessment = Assessment(store: store, world: world, manifest: manifest)
    try checkDevices(plan, assessment)
    let registry = Registry()
    let reports = await schedule(plan, assessment, registry)
    world.stats.save()
    let ordered = plan.stages.compactMap { reports[$0.name] }
    for report in ordered where report.units != nil {
      try report.save(&manifest)
    }
    try manifest.save(names: Set(whole.stages.map(\.name)))
    try pin(plan, reports)
    var result = RunReport(stages: ordered, seconds: 0)
    result.interrupted = ordered.contains { $0.failure == Engine.interruption }
    result.lockFile = try LockFile.write(world.licensed(whole), ordered, store: store)
    let runner = ActionRunner(engine: self, world: world, registry: registry)
    result.results = try await Results.lay(plan, reports, runner: runner, root: projectRoot)
    release(plan, reports, consumed: !result.failed && !result.denied)
    result.seconds = Date().timeIntervalSince(start)
    return result
  }

  /// Keeps what stages with `retain: pin` gave from being collected, for as long as the pipeline says so.
  private func pin(_ plan: Plan, _ reports: [String: StageReport]) throws(StoreError) {
    let pinned = plan.stages.filter { $0.retain == .pin }
    try store.pin(pinned.flatMap { reports[$0.name]?.units?.entries.map(\.key) ?? [] }, of: plan.name)
  }

  /// Whether the lock file is what a run that finds everything as in `report` would write.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing.
  public func lockIsCurrent(_ plan: Plan, _ report: RunReport) throws -> Bool {
    let plan = try World(plan, store: store, processor: processor, accelerator: accelerator).licensed(plan)
    return FileBytes.read(LockFile.path(plan)) == LockFile.bytes(plan, report.stages, old: [])
  }

  static let interruption = "interrupted"
  static let halted = "not started, as another stage failed; --keep-going starts it"

  /// Drops the bytes of outputs that are kept `until-consumed` or `never`, unless a stage that keeps them has the same
  /// bytes, or a result of the pipeline (which only `never` gives up: it lies under `runs/`). Their records stay: what is
  /// gone is made again if it is ever needed.
  private func release(_ plan: Plan, _ reports: [String: StageReport], consumed: Bool) {
    func isReleased(_ stage: PlannedStage) -> Bool {
      stage.retain == .never || (consumed && stage.retain == .untilConsumed)
    }
    let released = plan.stages.filter(isReleased)
    guard !released.isEmpty else { return }
    func digests(_ stage: PlannedStage) -> Set<Digest> {
      Set(
        (reports[stage.name]?.outputs ?? [:]).values.flatMap { $0.items.flatMap { $0.files.map(\.digest) } })
    }
    var kept = Set<Digest>()
    for stage in plan.stages where !isReleased(stage) { kept.formUnion(digests(stage)) }
    for result in plan.results {
      for case let (stage, port)? in result.references.map(\.origin) where plan.stage(stage)?.retain != .never
      {
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
    let before = manifest.stages[name]?.first
    // A part of the actions speaks for all of them.
    let isMeasured = state == .done && items.run > 0
    let whole = isMeasured ? work / Double(items.run) * Double(items.total) : before?.seconds ?? 0
    let peak = isMeasured && items.run == items.total ? peakMemory : max(peakMemory, before?.peakMemory ?? 0)
    let known = StageManifest(
      digest: digest, template: template, total: items.total, quarantined: quarantined, metrics: metrics,
      inputs: inputs, outputs: (outputs ?? [:]).mapValues(\.tree),
      seconds: whole, peakMemory: peak, units: blob)
    try manifest.put(name, known, units: bytes)
  }
}
