import FlowCore
public import FlowPlan
import FlowStageKit
public import FlowStore
import Foundation
import Synchronization

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

  // MARK: Assessing

  /// Says what a run would do, without doing it.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing.
  public func assess(_ plan: Plan) throws -> RunReport {
    let start = Date()
    let world = try World(plan, store: store)
    let history = History(store, plan.name)
    var reports: [String: StageReport] = [:]
    for stage in plan.stages {
      let open = stage.upstream.filter { reports[$0]?.outputs == nil }
      if open.isEmpty {
        reports[stage.name] = assess(
          stage, world.inputs(stage, outputs: reports.compactMapValues(\.outputs)), world, history)
      } else {
        var report = StageReport(name: stage.name, state: .mayRun)
        report.reasons = [.upstreamMayChange(open)]
        report.items.total = history.keys(stage.name).count
        report.items.run = report.items.total
        reports[stage.name] = report
      }
    }
    world.stats.save()
    return RunReport(
      stages: plan.stages.compactMap { reports[$0.name] }, seconds: Date().timeIntervalSince(start))
  }

  /// The report of a stage whose inputs are known; its `outputs` are set when all is cached.
  private func assess(_ stage: PlannedStage, _ inputs: [String: [Item]], _ world: World, _ history: History)
    -> StageReport
  {
    var report = StageReport(name: stage.name, state: .cached)
    report.inputs = inputs
    let units = Engine.units(stage, inputs)
    var outcome = Outcome(stage)
    let old = history.keys(stage.name)
    var fresh: [String] = []
    for unit in units {
      let action = Action(stage, inputs: unit.inputs, files: world.files[stage.name] ?? [:])
      report.keys[unit.item] = action.key
      if let record = store.record(action.key) {
        report.items.cached += 1
        outcome.add(unit.item, record)
        continue
      }
      report.items.run += 1
      if let before = old[unit.item].flatMap({ store.preimage($0) }) {
        let difference = Reason.difference(before, action.preimage)
        for reason in difference.isEmpty ? [.outputMissing] : difference
        where !report.reasons.contains(reason) {
          report.reasons.append(reason)
        }
      } else {
        fresh.append(unit.item)
      }
    }
    if !fresh.isEmpty { report.reasons.append(old.isEmpty ? .noRecord : .newItems(fresh)) }
    let gone = old.keys.filter { id in !units.contains { $0.item == id } }.sorted()
    if !gone.isEmpty, report.items.run > 0 { report.reasons.append(.removedItems(gone)) }
    report.items.total = units.count
    report.quarantined = outcome.quarantined
    report.items.quarantined = outcome.quarantined.count
    if report.items.run > 0 {
      report.state = .run
    } else {
      report.outputs = outcome.outputs
      report.metrics = outcome.metrics
      report.failure = outcome.verdict(stage, units.count)
      if report.failure != nil { report.state = .failed }
    }
    return report
  }

  /// The actions of a stage: per item those in all its required inputs that aren't whole, else one over all.
  static func units(_ stage: PlannedStage, _ inputs: [String: [Item]]) -> [(
    item: String, inputs: [String: [Item]]
  )] {
    guard stage.declaration.per == .item else { return [("", inputs)] }
    let own = stage.declaration.inputs.filter { !$0.whole && inputs[$0.name] != nil }
    let required = own.filter { !$0.optional }
    guard let first = (required.isEmpty ? own : required).first else { return [("", inputs)] }
    var indexed: [String: [String: Item]] = [:]
    for input in own {
      indexed[input.name] = Dictionary(
        (inputs[input.name] ?? []).map { ($0.id, $0) }, uniquingKeysWith: { a, _ in a })
    }
    var result: [(item: String, inputs: [String: [Item]])] = []
    for item in inputs[first.name] ?? [] where required.allSatisfy({ indexed[$0.name]?[item.id] != nil }) {
      var mine = inputs
      for input in own {
        var match = indexed[input.name]?[item.id]
        match?.id = ""
        mine[input.name] = match.map { [$0] }
      }
      result.append((item.id, mine))
    }
    return result
  }

  // MARK: Running

  /// Brings every stage up to date, writes the lock file, and lays out the results.
  /// - Throws: `Diagnostics` when a source or a file parameter is missing; `StoreError` when the lock file or the results
  ///   can't be written.
  public func run(_ plan: Plan, projectRoot: String) async throws -> RunReport {
    let start = Date()
    let world = try World(plan, store: store)
    let history = History(store, plan.name)
    let gate = ThreadGate(jobs)
    var reports: [String: StageReport] = [:]
    var waiting = plan.stages
    await withTaskGroup(of: StageReport.self) { group in
      func admit() {
        for stage in waiting where stage.upstream.allSatisfy({ reports[$0] != nil }) {
          waiting.removeAll { $0.name == stage.name }
          if let broken = stage.upstream.first(where: { reports[$0]?.state == .failed }) {
            var report = StageReport(name: stage.name, state: .failed)
            report.failure = "stage '\(broken)', which it takes from, failed"
            reports[stage.name] = report
            admit()
            return
          }
          let inputs = world.inputs(stage, outputs: reports.compactMapValues(\.outputs))
          group.addTask { await run(stage, inputs, world, history, gate) }
        }
      }
      admit()
      while let report = await group.next() {
        reports[report.name] = report
        observe(.finished(report))
        admit()
      }
    }
    world.stats.save()
    let ordered = plan.stages.compactMap { reports[$0.name] }
    history.save(ordered)
    var result = RunReport(stages: ordered, seconds: 0)
    result.interrupted = ordered.contains { $0.failure == Engine.interruption }
    result.lockFile = try LockFile.write(plan, ordered, store: store)
    result.results = try Results.lay(plan, reports, store: store, root: projectRoot)
    result.seconds = Date().timeIntervalSince(start)
    return result
  }

  static let interruption = "interrupted"

  private func run(
    _ stage: PlannedStage, _ inputs: [String: [Item]], _ world: World, _ history: History, _ gate: ThreadGate
  ) async -> StageReport {
    var report = assess(stage, inputs, world, history)
    guard report.state == .run else { return report }
    observe(.started(stage: stage.name, items: report.items.run, reasons: report.reasons))
    let begin = Date()
    let units = Engine.units(stage, inputs)
    let threads = stage.resources.cpu == 0 ? jobs : min(stage.resources.cpu, jobs)
    var outcome = Outcome(stage)
    var failures: [(item: String, message: String)] = []
    var finished: [String: Result<ActionRecord, ItemFailure>] = [:]
    await withTaskGroup(of: (String, Result<ActionRecord, ItemFailure>).self) { group in
      for unit in units {
        let action = Action(stage, inputs: unit.inputs, files: world.files[stage.name] ?? [:])
        group.addTask {
          await gate.enter(threads)
          let result = await perform(action, stage, unit.item, threads, world)
          await gate.leave(threads)
          return (unit.item, result)
        }
      }
      for await (item, result) in group { finished[item] = result }
    }
    for unit in units {
      switch finished[unit.item] {
      case .success(let record)?:
        outcome.add(unit.item, record)
        report.peakMemory = max(report.peakMemory, record.peakMemory)
      case .failure(let failure)?:
        failures.append((unit.item, failure.message))
        outcome.quarantined.append(QuarantinedItem(id: unit.item, reason: failure.message))
      case nil: break
      }
    }
    report.seconds = Date().timeIntervalSince(begin)
    report.quarantined = outcome.quarantined
    report.items.quarantined = outcome.quarantined.count
    report.metrics = outcome.metrics
    report.outputs = outcome.outputs
    report.state = .done
    if failures.contains(where: { $0.message == Engine.interruption }) {
      report.failure = Engine.interruption
    } else if let first = failures.first, stage.declaration.per == .all || stage.onError == .fail {
      report.failure = (first.item.isEmpty ? "" : "\(first.item): ") + first.message
    } else {
      report.failure = outcome.verdict(stage, units.count)
    }
    if report.failure != nil {
      report.state = .failed
      report.outputs = nil
    }
    return report
  }

  struct ItemFailure: Error { let message: String }

  /// Runs one action, or takes its record if it has one by now.
  private func perform(
    _ action: Action, _ stage: PlannedStage, _ item: String, _ threads: Int, _ world: World
  ) async -> Result<ActionRecord, ItemFailure> {
    if let record = store.record(action.key) { return .success(record) }
    // Two runs on one cache share work: the second waits here and then finds the record.
    let lock = await Engine.waiting { [store] in store.lock(action.key.hex) }
    defer { withExtendedLifetime(lock) {} }
    if let record = store.record(action.key) { return .success(record) }
    do {
      try world.ingest(action, store)
    } catch {
      return .failure(ItemFailure(message: "\(error)"))
    }
    let lines = Mutex<[String]>([])
    let begin = Date()
    let name = stage.name
    let outcome = await executor.run(
      action, threads: threads,
      progress: { [observe] in observe(.progress(stage: name, item: item, fraction: $0, note: $1)) },
      log: { line in lines.withLock { $0.append(line) } })
    var record = ActionRecord(preimage: action.preimage, seconds: Date().timeIntervalSince(begin))
    var failure: String?
    switch outcome {
    case .done(let outputs, let metrics, let memory):
      record.outputs = outputs
      record.metrics = metrics.filter { $0.value.isFinite }
      record.peakMemory = memory
      observe(.item(stage: name, item: item, quarantined: nil))
    case .rejected(let reason):
      record.rejected = reason
      observe(.item(stage: name, item: item, quarantined: reason))
    case .failed(let message, let help):
      failure = message + (help.map { " (\($0))" } ?? "")
      observe(.item(stage: name, item: item, quarantined: message))
    case .cancelled: failure = Engine.interruption
    }
    do {
      record.log = try store.put(
        Array((lines.withLock { $0 } + (failure.map { [$0] } ?? [])).joined(separator: "\n").utf8))
      if let failure {
        if let log = record.log {
          try store.publish(Array(log.hex.utf8), at: "\(store.root)/runs/failed/\(action.key.hex)")
        }
        return .failure(ItemFailure(message: failure))
      }
      if let changed = world.changedSource(action) {
        return .failure(ItemFailure(message: "\(changed) was edited while it was being worked on; run again"))
      }
      try store.publish(record, key: action.key)
    } catch {
      return .failure(ItemFailure(message: "\(error)"))
    }
    return .success(record)
  }

  /// A blocking call on a thread of its own.
  private static func waiting<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { continuation in
      Thread { continuation.resume(returning: body()) }.start()
    }
  }
}

/// Hands out threads, first come first served.
actor ThreadGate {
  private let capacity: Int
  private var used = 0
  private var queue: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []

  init(_ capacity: Int) { self.capacity = capacity }

  func enter(_ count: Int) async {
    if queue.isEmpty, used + count <= capacity {
      used += count
      return
    }
    await withCheckedContinuation { queue.append((count, $0)) }
  }

  func leave(_ count: Int) {
    used -= count
    while let first = queue.first, used + first.count <= capacity {
      used += first.count
      queue.removeFirst().continuation.resume()
    }
  }
}

/// The items that a stage's records give.
struct Outcome {
  var outputs: [String: [Item]]
  var quarantined: [QuarantinedItem] = []
  private var sums: [String: (total: Double, count: Int)] = [:]
  private let perItem: Bool

  init(_ stage: PlannedStage) {
    outputs = Dictionary(uniqueKeysWithValues: stage.declaration.outputs.map { ($0.name, []) })
    perItem = stage.declaration.per == .item
  }

  mutating func add(_ item: String, _ record: ActionRecord) {
    if let reason = record.rejected {
      quarantined.append(QuarantinedItem(id: item, reason: reason))
      return
    }
    for (port, items) in record.outputs {
      outputs[port, default: []] += items.map { emitted in
        var named = emitted
        if perItem { named.id = item + emitted.id }
        return named
      }
    }
    for (name, value) in record.metrics {
      sums[name] = ((sums[name]?.total ?? 0) + value, (sums[name]?.count ?? 0) + 1)
    }
  }

  /// The mean of each metric over the items that have it.
  var metrics: [String: Double] { sums.mapValues { $0.total / Double($0.count) } }

  /// What to say when an item was set aside where none may be, or until none was left.
  func verdict(_ stage: PlannedStage, _ total: Int) -> String? {
    if stage.onError == .fail, let first = quarantined.first { return "\(first.id): \(first.reason)" }
    guard total > 0, quarantined.count == total else { return nil }
    let first = quarantined.prefix(3).map { "\($0.id.isEmpty ? "all" : $0.id): \($0.reason)" }.joined(
      separator: "; ")
    return "none of \(total) items is left (\(first))"
  }
}

extension PlannedStage {
  /// The stages it takes from, sorted.
  var upstream: [String] {
    Set(bindings.values.flatMap { $0 }.compactMap { if case .output(let name, _) = $0 { name } else { nil } })
      .sorted()
  }
}
