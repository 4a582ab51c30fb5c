import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation
import Synchronization

/// What the stages of a run took and gave, to find who made an object.
final class Registry: Sendable {
  struct Entry {
    var stage: PlannedStage
    var inputs: [String: Artifact]
    var units: Units?
  }
  private let entries = Mutex<[String: Entry]>([:])

  func add(_ stage: PlannedStage, _ inputs: [String: Artifact], _ units: Units?) {
    entries.withLock { $0[stage.name] = Entry(stage: stage, inputs: inputs, units: units) }
  }

  /// The stage and unit that gave an object.
  func producer(of digest: Digest) -> (entry: Entry, item: String)? {
    for entry in entries.withLock({ Array($0.values) }) {
      for unit in entry.units?.entries ?? [] {
        for items in unit.outputs.values {
          if items.contains(where: { $0.files.contains { $0.digest == digest } }) {
            return (entry, unit.item)
          }
        }
      }
    }
    return nil
  }
}

/// Runs one action: with its lock, its inputs' bytes in place, as often as its retries allow.
struct ActionRunner: Sendable {
  let engine: Engine
  let world: World
  let registry: Registry

  enum Result: Sendable {
    case success(key: Digest, ActionRecord)
    case failure(String)
    /// It had too little memory and may be tried again with more.
    case wantsMemory(String)
    /// The cache can't be used: the stage fails, whatever it does with items at fault.
    case broken(String)
  }

  private var store: Store { engine.store }

  /// Runs the action, or takes its record if it has one by now.
  /// - Parameter canGrow: want of memory is for the caller to mend, who can wait for more; nothing is locked then.
  func perform(_ assignment: Assignment, _ stage: PlannedStage, _ item: String, canGrow: Bool) async -> Result
  {
    let action = assignment.action
    // Two runs on one cache share work: the second waits here and then finds the record.
    let lock = await lock(action.key)
    defer { withExtendedLifetime(lock) {} }
    if let record = store.record(action.key) { return .success(key: action.key, record) }
    // With more memory or not at all: that is the caller's.
    let retries = stage.retries.filter { $0.key != .outOfMemory }
    return await execute(assignment, stage, item, retries: retries, canGrow: canGrow)
  }

  /// Runs the action, whether it has a record or not.
  private func execute(
    _ given: Assignment, _ stage: PlannedStage, _ item: String, retries: [FailureCause: Int],
    canGrow: Bool = false
  ) async -> Result {
    var assignment = given
    let action = assignment.action
    let lines = Mutex<[String]>([])
    let begin = Date()
    var (retries, healings) = (retries, 0)
    while true {
      do { try await provide(action, assignment.grant) } catch let error as StoreError {
        return .broken("\(error)")
      } catch {
        return .failure("\(error)")
      }
      let outcome = await engine.executor.run(
        assignment,
        progress: { [observe = engine.observe] in
          observe(.progress(stage: stage.name, item: item, fraction: $0, note: $1))
        },
        log: { line in lines.withLock { $0.append(line) } })
      switch outcome {
      case .missing(let digest) where healings < 8:
        // Provided a moment ago, but damaged: the read set it aside, so it is made again.
        healings += 1
        lines.withLock { $0.append("object \(digest.short) was damaged; it is made again") }
        assignment.company = 0
        continue
      case .failed(.outOfMemory, let message, _) where canGrow: return .wantsMemory(message)
      case .failed(_, let message, _) where retries[outcome.cause ?? .other, default: 0] > 0:
        retries[outcome.cause ?? .other, default: 0] -= 1
        if outcome.cause == .outOfMemory { assignment.growth *= 2 }
        assignment.company = 0
        lines.withLock { $0.append("\(message); trying again") }
        engine.observe(.retry(stage: stage.name, item: item, reason: message))
        continue
      default: break
      }
      return conclude(action, stage, item, outcome, lines.withLock { $0 }, Date().timeIntervalSince(begin))
    }
  }

  private func conclude(
    _ action: Action, _ stage: PlannedStage, _ item: String, _ outcome: ActionOutcome, _ lines: [String],
    _ seconds: Double
  ) -> Result {
    var record = ActionRecord(action, outcome, seconds: seconds)
    var failure: String?
    switch outcome {
    case .recorded(let record):
      store.note(record, key: action.key)
      engine.observe(.item(stage: stage.name, item: item, quarantined: record.rejected))
      return .success(key: action.key, record)
    case .done, .rejected:
      engine.observe(.item(stage: stage.name, item: item, quarantined: record.rejected))
    case .failed(_, let message, let help):
      failure = message + (help.map { " (\($0))" } ?? "")
      engine.observe(.item(stage: stage.name, item: item, quarantined: message))
    case .missing(let digest): failure = "object \(digest.short) is damaged again and again; check the disk"
    case .broken(let message): return .broken(message)
    case .cancelled: failure = Engine.interruption
    }
    do {
      let text = (lines + (failure.map { [$0] } ?? [])).joined(separator: "\n")
      if !text.isEmpty { record.log = try store.put(Array(text.utf8)) }
      if let failure {
        if let log = record.log {
          try store.publish(Array(log.hex.utf8), at: "\(store.root)/runs/failed/\(action.key.hex)")
        }
        return .failure(failure)
      }
      if let changed = world.changedSource(action) {
        return .failure("\(changed) was edited while it was being worked on; run again")
      }
      try store.publish(record, key: action.key)
      try store.commitIfDue()
    } catch {
      return .broken("\(error)")
    }
    return .success(key: action.key, record)
  }

  /// Sees to it that the bytes of all inputs are in the store.
  private func provide(_ action: Action, _ grant: Grant) async throws {
    for file in action.inputs.values.flatMap({ $0.flatMap(\.files) }) where !store.contains(file.digest) {
      if try !world.ingest(file.digest, store) { try await restore(file.digest, grant) }
    }
  }

  /// Makes an object again by running what gave it.
  /// - Throws: `StageFailure` when it can't be made.
  func restore(_ digest: Digest, _ grant: Grant) async throws {
    if store.contains(digest) { return }
    guard let (entry, item) = registry.producer(of: digest) else { throw StoreError.missing(digest) }
    let template = world.template(entry.stage)
    let unit = Unit.all(entry.stage, entry.inputs.mapValues(\.items)).first { $0.item == item }
    guard let unit else { throw StoreError.missing(digest) }
    let action = Action(entry.stage, template: template, inputs: unit.inputs)
    var assignment = Assignment(action, stage: entry.stage.name, grant: grant, timeout: entry.stage.timeout)
    assignment.grant.memory = entry.stage.resources.memory
    assignment.gpus = entry.stage.gpus(engine.capacity)
    let lock = await lock(action.key)
    defer { withExtendedLifetime(lock) {} }
    if store.contains(digest) { return }
    engine.observe(.restoring(stage: entry.stage.name, item: item))
    switch await execute(assignment, entry.stage, item, retries: entry.stage.retries) {
    case .success: break
    case .failure(let message), .wantsMemory(let message), .broken(let message):
      throw StageFailure(
        "what '\(entry.stage.name)' gave is gone from the cache and can't be made again: \(message)")
    }
    guard store.contains(digest) else {
      throw StageFailure(
        "'\(entry.stage.name)' no longer gives the bytes it gave, though nothing that it takes changed",
        help: "its version must be raised when its code changes results")
    }
  }

  /// The lock of an action, waited for where it is taken.
  private func lock(_ key: Digest) async -> StoreLock? {
    if let lock = store.lockIfFree(key) { return lock }
    return await BlockingThreads.shared.run { [store] in store.lock(key) }
  }
}

extension ActionRecord {
  /// What is kept of `outcome`.
  init(_ action: Action, _ outcome: ActionOutcome, seconds: Double) {
    self.init(preimage: action.preimage, seconds: seconds)
    switch outcome {
    case .done(let outputs, let metrics, let memory):
      self.outputs = outputs
      self.metrics = metrics.filter { $0.value.isFinite }
      peakMemory = memory
    case .rejected(let reason): rejected = reason
    case .recorded, .failed, .missing, .broken, .cancelled: break
    }
  }
}
