import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

extension Engine {
  /// Runs what has to run, each stage as soon as what it takes from is there.
  func schedule(_ plan: Plan, _ assessment: Assessment, _ registry: Registry) async -> [String: StageReport] {
    var reports: [String: StageReport] = [:]
    var index: [String: Int] = [:]
    for (i, stage) in plan.stages.enumerated() { index[stage.name] = i }
    var missing = plan.stages.map { stage in stage.upstream.count { index[$0] != nil } }
    var dependents = [[Int]](repeating: [], count: plan.stages.count)
    for (i, stage) in plan.stages.enumerated() {
      for name in stage.upstream { if let from = index[name] { dependents[from].append(i) } }
    }
    let gate = ThreadGate(jobs)
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
          if let broken = stage.upstream.first(where: { reports[$0]?.outputs == nil }) {
            var report = StageReport(name: stage.name, state: .failed)
            report.failure =
              reports[broken]?.failure == Engine.interruption
              ? Engine.interruption : "stage '\(broken)', which it takes from, failed"
            settle(i, report)
            continue
          }
          let inputs = assessment.world.inputs(stage, reports)
          let verdict = assessment.assess(stage, inputs)
          registry.add(stage, inputs, verdict.report.units)
          if verdict.report.state == .run {
            group.addTask { (i, await run(stage, verdict, assessment, runner, gate)) }
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

  /// Runs the units of a stage that are not known.
  private func run(
    _ stage: PlannedStage, _ verdict: Assessment.Verdict, _ assessment: Assessment, _ runner: ActionRunner,
    _ gate: ThreadGate
  ) async -> StageReport {
    var report = verdict.report
    observe(.started(stage: stage.name, items: report.items.run, reasons: report.reasons))
    let begin = Date()
    let threads = stage.resources.cpu == 0 ? jobs : min(stage.resources.cpu, jobs)
    let template = Action.template(stage, files: assessment.world.files[stage.name] ?? [:])
    var results: [Int: ActionRunner.Result] = [:]
    await withTaskGroup(of: (Int, ActionRunner.Result).self) { group in
      for (i, entry) in verdict.units.enumerated() where entry.entry == nil {
        let action = Action(stage, template: template, inputs: entry.unit.inputs)
        group.addTask {
          await gate.enter(threads)
          let result = await runner.perform(action, stage, entry.unit.item, threads)
          await gate.leave(threads)
          return (i, result)
        }
      }
      for await (i, result) in group { results[i] = result }
    }
    var (entries, failures) = ([UnitEntry](), [(item: String, message: String)]())
    var work = 0.0
    for (i, (unit, digest, entry)) in verdict.units.enumerated() {
      if let entry { entries.append(entry) }
      switch results[i] {
      case .success(let key, let record)?:
        entries.append(
          UnitEntry(
            item: unit.item, inputs: digest, key: key, rejected: record.rejected, outputs: record.outputs,
            metrics: record.metrics))
        report.peakMemory = max(report.peakMemory, record.peakMemory)
        work += record.seconds
      case .failure(let message)?: failures.append((unit.item, message))
      case nil: break
      }
    }
    report.state = .done
    report.finish(stage, entries)
    report.seconds = Date().timeIntervalSince(begin)
    report.quarantined += failures.map { QuarantinedItem(id: $0.item, reason: $0.message) }
    report.items.quarantined = report.quarantined.count
    let interrupted = failures.contains { $0.message == Engine.interruption }
    if interrupted {
      report.failure = Engine.interruption
    } else if let first = failures.first {
      if stage.declaration.per == .all || stage.onError == .fail {
        report.failure = (first.item.isEmpty ? "" : "\(first.item): ") + first.message
      } else if failures.count + entries.count(where: { $0.rejected != nil }) == verdict.units.count {
        report.failure = "none of \(verdict.units.count) items is left (\(first.item): \(first.message))"
      }
    }
    if report.failure != nil {
      report.state = .failed
      report.outputs = nil
    }
    return report
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
