import FlowPlan
import FlowStageKit
import FlowStore

/// What a run will cost, by what earlier runs cost.
public struct Forecast: Sendable, Hashable {
  /// Seconds from begin to end: the longest way through the stages, or all work shared out over the threads, whichever
  /// is longer.
  public var seconds: Double
  /// The most bytes of memory that will be held at once.
  public var memory: Int

  /// The forecast of what `reports` say has to run; `nil` when nothing has to, or nothing is known of a stage that does.
  init?(_ plan: Plan, _ reports: [String: StageReport], _ capacity: Capacity) {
    var (ways, work, memory, isOpen) = ([String: Double](), 0.0, 0, false)
    for stage in plan.stages {
      var own = 0.0
      if let report = reports[stage.name], report.state != .cached {
        guard let seconds = report.expectedSeconds else { return nil }
        isOpen = true
        let request = Request(stage, measured: nil, capacity)
        own = Forecast.elapsed(seconds, stage, capacity)
        work += seconds * Double(request.threads)
        let atOnce =
          stage.declaration.per == .all
          ? 1 : min(max(1, report.items.run), capacity.threads / request.threads)
        memory = max(
          memory,
          min(capacity.memory, report.expectedMemory.multipliedReportingOverflow(by: atOnce).partialValue))
      }
      ways[stage.name] = own + (stage.upstream.compactMap { ways[$0] }.max() ?? 0)
    }
    guard isOpen else { return nil }
    seconds = max(ways.values.max() ?? 0, work / Double(capacity.threads))
    self.memory = memory
  }

  /// Seconds from a stage's begin to its end, when it has the machine.
  static func elapsed(_ work: Double, _ stage: PlannedStage, _ capacity: Capacity) -> Double {
    guard stage.declaration.per == .item else { return work }
    let threads = stage.resources.cpu == 0 ? capacity.threads : min(stage.resources.cpu, capacity.threads)
    return work * Double(threads) / Double(capacity.threads)
  }

  /// By stage, seconds from its begin to the end of the run. Where nothing is known of a stage, it is taken to be as long
  /// as the others are on average.
  static func ranks(_ plan: Plan, _ manifest: PipelineManifest, _ capacity: Capacity) -> [String: Double] {
    let known = plan.stages.compactMap { manifest.stages[$0.name]?.first?.seconds }
    let mean = known.isEmpty ? 1 : known.reduce(0, +) / Double(known.count)
    var after: [String: Double] = [:]
    var ranks: [String: Double] = [:]
    for stage in plan.stages.reversed() {
      let work = manifest.stages[stage.name]?.first?.seconds ?? mean
      let rank = elapsed(work, stage, capacity) + after[stage.name, default: 0]
      ranks[stage.name] = rank
      for name in stage.upstream { after[name] = max(after[name, default: 0], rank) }
    }
    return ranks
  }
}

extension StageReport {
  /// Fills in what the last run of the stage says about the next.
  mutating func expect(_ stage: PlannedStage, _ last: StageManifest?) {
    expectedMemory = Request.estimate(stage, last?.peakMemory)
    guard let last, state != .cached, last.total > 0 else { return }
    expectedSeconds = last.seconds / Double(last.total) * Double(items.run)
  }
}
