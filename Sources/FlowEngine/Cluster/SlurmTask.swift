import FlowCore
import FlowStore
import Foundation

/// One task of a job array, as its submitter sees it.
final class SlurmTask {
  let batch: Batch
  let index: Int
  let job: Int
  /// What Slurm said last; `nil` when it doesn't know the task.
  private(set) var state: SlurmTools.State?
  /// Since when Slurm says that it has ended, or doesn't know it.
  private(set) var endedSince: Date?
  /// The action that has begun and isn't over.
  private(set) var current: Digest?
  /// Whether it ever said something.
  private(set) var hasBegun = false
  /// Whether it said that a signal ended it.
  private(set) var wasStopped = false
  /// Whether an action failed.
  private(set) var hasFailures = false
  private var waiting: [Digest: SlurmWaiting] = [:]
  /// Recorded by the node, but not all visible here yet.
  private var recorded: Set<Digest> = []
  private var events: EventReader
  private var reason = ""

  init(_ batch: Batch, index: Int, job: Int, _ waiting: [SlurmWaiting]) {
    self.batch = batch
    self.index = index
    self.job = job
    events = EventReader(batch.events(index))
    for each in waiting { self.waiting[each.key] = each }
  }

  /// The actions without an outcome, in a fixed order.
  var open: [SlurmWaiting] { waiting.values.sorted { $0.key.hex < $1.key.hex } }

  func add(_ more: SlurmWaiting) {
    waiting[more.key] = more
    // From the start again: what it reported of this action was passed over.
    events = EventReader(batch.events(index))
  }

  func settle(_ key: Digest, _ outcome: ActionOutcome) {
    guard let found = waiting.removeValue(forKey: key) else { return }
    if current == key { current = nil }
    recorded.remove(key)
    if case .failed = outcome { hasFailures = true }
    found.continuation.resume(returning: outcome)
  }

  func settleAll(_ outcome: ActionOutcome) {
    for each in open { settle(each.key, outcome) }
  }

  /// Hands over what is open.
  func takeAll() -> [SlurmWaiting] {
    defer { waiting = [:] }
    return open
  }

  /// Takes up what the node reported.
  func read(_ store: Store) {
    for event in events.next() {
      switch event {
      case .began:
        current = nil
        hasBegun = true
        wasStopped = false
      case .started(let key): current = key
      case .progress(let key, let fraction, let note): waiting[key]?.progress(fraction, note)
      case .recorded(let key):
        if current == key { current = nil }
        if waiting[key] != nil { recorded.insert(key) }
      case .failed(let key, let cause, let message, let help, let log):
        for line in log { waiting[key]?.log(line) }
        settle(key, .failed(cause, message, help: help))
      case .missing(let key, let object): settle(key, .missing(object))
      case .ended: break
      case .stopped: wasStopped = true
      }
    }
    for key in recorded where store.isComplete(key) {
      if let record = store.record(key) { settle(key, .recorded(record)) }
    }
  }

  /// Takes up what Slurm says; whether that changes something.
  func update(_ status: SlurmTools.Status?) -> Bool {
    let before = state
    state = status?.state
    if let status, status.state.isLive {
      endedSince = nil
      if case .waiting = status.state, status.reason != reason, status.reason != "None" {
        reason = status.reason
        open.first?.progress(0, "job \(job)_\(index) waits: \(reason)")
      }
    } else if endedSince == nil {
      endedSince = Date()
    }
    return before != state
  }
}
