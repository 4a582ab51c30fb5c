import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation
import Synchronization

extension Engine {
  /// Runs what has to run, each stage as soon as what it takes from is there.
  func schedule(_ plan: Plan, _ assessment: Assessment, _ registry: Registry) async -> [String: StageReport] {
    var reports: [String: StageReport] = [:]
    var index: [String: Int] = [:]
    for (i, stage) in plan.stages.enumerated() { index[stage.name] = i }
    let upstream = plan.stages.map(\.upstream)
    var missing = upstream.map { names in names.count { index[$0] != nil } }
    var dependents = [[Int]](repeating: [], count: plan.stages.count)
    for (i, names) in upstream.enumerated() {
      for name in names { if let from = index[name] { dependents[from].append(i) } }
    }
    var capacity = capacity.limited(plan)
    // A limit of this machine's memory is none of a cluster's.
    if executor.elsewhere != nil { capacity.memory = .max }
    let halt = Halt()
    let gate = ResourceGate(executor.elsewhere.map(capacity.elsewhere) ?? capacity)
    let ranks = Forecast.ranks(plan, assessment.manifest, capacity)
    let runner = ActionRunner(engine: self, world: assessment.world, registry: registry)
    // In reverse, so that the last is the first in the text.
    var ready = plan.stages.indices.filter { missing[$0] == 0 }.reversed() + []
    await withTaskGroup(of: (Int, StageReport).self) { group in
      func settle(_ i: Int, _ report: StageReport) {
        reports[plan.stages[i].name] = report
        observe(.finished(report))
        for next in dependents[i] {
          missing[next] -= 1
          if missing[next] == 0 { ready.append(next) }
        }
      }
      while true {
        while let i = ready.popLast() {
          let stage = plan.stages[i]
          if let report = assessment.denied(stage, plan.licenses, reports) {
            settle(i, report)
            continue
          }
          if let broken = upstream[i].first(where: { reports[$0]?.outputs == nil }) {
            var report = StageReport(name: stage.name, state: .failed)
            report.isConsequence = true
            report.failure =
              reports[broken]?.failure == Engine.interruption
              ? Engine.interruption : "stage '\(broken)', which it takes from, failed"
            settle(i, report)
            continue
          }
          let inputs = assessment.world.inputs(stage, reports)
          let verdict = assessment.assess(stage, inputs)
          registry.add(stage, inputs, verdict.report.units)
          if verdict.report.state == .run, halt.isSet {
            var report = verdict.report
            (report.state, report.failure, report.isConsequence) = (.failed, Engine.halted, true)
            settle(i, report)
          } else if verdict.report.state == .run {
            let seats = Seats(
              gate: gate, halt: halt, capacity: capacity, order: i, rank: ranks[stage.name] ?? 0,
              request: Request(
                stage, measured: assessment.manifest.stages[stage.name]?.first?.peakMemory, capacity))
            group.addTask { (i, await run(stage, verdict, assessment, runner, seats)) }
          } else {
            settle(i, verdict.report)
          }
        }
        guard let (i, report) = await group.next() else { break }
        registry.add(plan.stages[i], assessment.world.inputs(plan.stages[i], reports), report.units)
        settle(i, report)
      }
    }
    return reports
  }

  /// Where the actions of a stage wait for what they need.
  private struct Seats: Sendable {
    var gate: ResourceGate
    var halt: Halt
    var capacity: Capacity
    var order: Int
    var rank: Double
    var request: Request
  }

  private func halt(_ seats: Seats) { if !keepGoing { seats.halt.set() } }

  /// Runs an action when there is room for it; one that had too little memory again with twice as much.
  private func perform(
    _ first: Assignment, _ stage: PlannedStage, _ item: String, _ runner: ActionRunner, _ seats: Seats
  ) async -> ActionRunner.Result {
    var (request, assignment) = (seats.request, first)
    var retries = stage.retries[.outOfMemory] ?? 0
    while true {
      if seats.halt.isSet { return .failure(Engine.halted) }
      let held = executor.elsewhere == nil ? request : request.elsewhere
      let grant = await seats.gate.enter(held, order: seats.order, rank: seats.rank)
      if seats.halt.isSet {
        await seats.gate.leave(held, grant)
        return .failure(Engine.halted)
      }
      assignment.grant = executor.elsewhere == nil ? grant : assignment.grant
      let result = await runner.perform(assignment, stage, item, canGrow: retries > 0)
      await seats.gate.leave(held, grant)
      guard case .wantsMemory(let message) = result else { return result }
      retries -= 1
      assignment.growth *= 2
      assignment.company = 0
      var room = "with \(assignment.growth) times as much"
      if executor.elsewhere == nil {
        request = request.grown(seats.capacity)
        room = request.isAlone ? "alone" : "with \(request.memory / 1_048_576) MB set aside"
      }
      observe(.retry(stage: stage.name, item: item, reason: "\(message) (next \(room))"))
    }
  }

  /// Runs the units of a stage that are not known.
  private func run(
    _ stage: PlannedStage, _ verdict: Assessment.Verdict, _ assessment: Assessment, _ runner: ActionRunner,
    _ seats: Seats
  ) async -> StageReport {
    var report = verdict.report
    report.expect(stage, assessment.manifest.stages[stage.name]?.first)
    observe(.started(stage: stage.name, items: report.items.run, reasons: report.reasons))
    let begin = Date()
    if seats.request.isAlone {
      let (has, wants) = (seats.capacity.memory / 1_048_576, report.expectedMemory / 1_048_576)
      observe(
        .warning(
          stage: stage.name,
          "wants \(wants) MB of memory of \(has) MB; its actions run alone, one after the other"))
    }
    let template = assessment.world.template(stage)
    let last = assessment.manifest.stages[stage.name]?.first
    let expected = last.flatMap { $0.total > 0 ? $0.seconds / Double($0.total) : nil }
    var results: [Int: ActionRunner.Result] = [:]
    await withTaskGroup(of: (Int, ActionRunner.Result).self) { group in
      for (i, entry) in verdict.units.enumerated() where entry.entry == nil {
        var assignment = Assignment(
          Action(stage, template: template, inputs: entry.unit.inputs), stage: stage.name,
          grant: Grant(threads: seats.request.threads, memory: seats.request.memory), timeout: stage.timeout)
        assignment.gpus = seats.request.gpus
        assignment.expectedSeconds = expected
        assignment.company = report.items.run
        group.addTask { [assignment] in
          (i, await perform(assignment, stage, entry.unit.item, runner, seats))
        }
      }
      for await (i, result) in group {
        results[i] = result
        // One failure is the stage's here: what waits needn't begin.
        if case .failure(let message) = result, message != Engine.interruption,
          stage.declaration.per == .all || stage.onError == .fail
        {
          halt(seats)
        }
      }
    }
    var (entries, failures) = ([UnitEntry](), [(item: String, message: String)]())
    var broken: String?
    for (i, (unit, digest, entry)) in verdict.units.enumerated() {
      if let entry { entries.append(entry) }
      switch results[i] {
      case .success(let key, let record)?:
        entries.append(
          UnitEntry(
            item: unit.item, inputs: digest, key: key, rejected: record.rejected, outputs: record.outputs,
            metrics: record.metrics))
        report.peakMemory = max(report.peakMemory, record.peakMemory)
        report.work += record.seconds
      case .failure(let message)?, .wantsMemory(let message)?: failures.append((unit.item, message))
      case .broken(let message)?:
        failures.append((unit.item, message))
        broken = broken ?? message
      case nil: break
      }
    }
    report.state = .done
    report.finish(stage, entries)
    report.seconds = Date().timeIntervalSince(begin)
    report.quarantined += failures.map { QuarantinedItem(id: $0.item, reason: $0.message) }
    report.items.quarantined = report.quarantined.count
    report.failure = broken ?? report.failure
    let interrupted = failures.contains { $0.message == Engine.interruption }
    let halted = failures.contains { $0.message == Engine.halted }
    if interrupted {
      report.failure = Engine.interruption
    } else if broken == nil,
      let first = failures.first(where: { $0.message != Engine.halted }) ?? failures.first
    {
      if stage.declaration.per == .all || stage.onError == .fail {
        report.failure = (first.item.isEmpty ? "" : "\(first.item): ") + first.message
      } else if halted {
        report.failure = Engine.halted
      } else if failures.count + entries.count(where: { $0.rejected != nil }) == verdict.units.count {
        report.failure = "none of \(verdict.units.count) items is left (\(first.item): \(first.message))"
      }
    }
    if report.failure != nil {
      if !interrupted { halt(seats) }
      report.state = .failed
      report.outputs = nil
    }
    return report
  }
}

/// Set once a stage has failed: nothing more is begun.
private final class Halt: Sendable {
  private let flag = Atomic<Bool>(false)
  var isSet: Bool { flag.load(ordering: .relaxed) }
  func set() { flag.store(true, ordering: .relaxed) }
}
