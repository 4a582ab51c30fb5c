import FlowCore
import FlowPlan
import FlowStageKit
public import FlowStore
import Foundation
import Synchronization

/// A node's side: runs the actions of one task of a batch in worker processes, puts their records into the store and
/// reports. A crash costs one action, and a task that begins again goes on where it was.
public final class BatchTask: Sendable {
  private let store: Store
  private let batch: Batch
  private let index: Int
  private let pool: WorkerPool
  private let stopping = Atomic<Bool>(false)
  /// Seconds in which what others wrote must have become visible here.
  private let patience: Double
  private let device: @Sendable (_ ranks: Int) -> ClusterDevices.Device

  /// Task `index` of the batch called `id`; workers are started as `worker`, and `device` says what CUDA devices so many
  /// ranks have here.
  public init(
    store: Store, batch id: String, index: Int, worker: [String], patience: Double = 60,
    device: @escaping @Sendable (_ ranks: Int) -> ClusterDevices.Device
  ) {
    self.device = device
    self.store = store
    batch = Batch(store, id: id)
    self.index = index
    pool = WorkerPool(store: store, command: worker)
    self.patience = patience
  }

  /// Asks the running stage to stop at its next checkpoint; then the task ends.
  public func stop() {
    stopping.store(true, ordering: .sequentiallyConsistent)
    pool.cancel()
  }

  private var isStopping: Bool { stopping.load(ordering: .sequentiallyConsistent) }

  /// Runs what is left to run; the process's exit status. Blocks: not for a thread of the cooperative pool.
  public func run() -> Int32 {
    var document: TaskDocument?
    wait {
      document = FileBytes.read(batch.document(index)).flatMap {
        try? JSONDecoder().decode(TaskDocument.self, from: Data($0))
      }
      return document != nil
    }
    guard let document else {
      FileHandle.standardError.write(
        Data("there is no \(batch.document(index)): is the cache on a file system that all nodes see?\n".utf8)
      )
      return 66
    }
    var reader = EventReader(batch.events(index))
    let settled = Set(reader.next().compactMap(\.settles))
    report(.began(host: ProcessInfo.processInfo.hostName))
    for assignment in document.assignments where !settled.contains(assignment.action.key) {
      if isStopping { break }
      perform(assignment)
    }
    report(isStopping ? .stopped : .ended)
    return isStopping ? 143 : 0
  }

  private func perform(_ assignment: Assignment) {
    let key = assignment.action.key
    // A node that was given up for lost may still be at it.
    var hasher = SHA256()
    hasher.field("flow-task-lock/1", key.hex.utf8)
    let lock = store.lock(hasher.finish())
    defer { withExtendedLifetime(lock) {} }
    if store.isComplete(key) { return report(.recorded(key)) }
    if let wrong = misplacement(assignment) {
      return report(.failed(key, .other, wrong.message, help: wrong.help, log: []))
    }
    let files = assignment.action.inputs.values.flatMap { $0.flatMap(\.files) }
    wait { files.allSatisfy { store.contains($0.digest) } }
    report(.started(key))
    var (lines, spoke) = ([String](), Date.distantPast)
    let begin = Date()
    var assignment = assignment
    // Those that Slurm gave.
    if assignment.gpus > 0 { assignment.grant.gpus = Machine.gpus() }
    let outcome = pool.perform(
      assignment,
      progress: { fraction, note in
        guard Date().timeIntervalSince(spoke) >= 1 else { return }
        spoke = Date()
        report(.progress(key, fraction, note))
      },
      log: { lines.append($0) })
    switch outcome {
    case .done, .rejected, .recorded:
      var record = ActionRecord(assignment.action, outcome, seconds: Date().timeIntervalSince(begin))
      do {
        let text = lines.joined(separator: "\n")
        if !text.isEmpty { record.log = try store.put(Array(text.utf8)) }
        try store.publish(record, key: key)
        report(.recorded(key))
      } catch {
        report(.failed(key, .other, "\(error)", help: nil, log: []))
      }
    case .failed(let cause, let message, let help):
      // The signal that ends a task also ends programs that it runs; that is no failure of theirs.
      wait(0.2) { isStopping }
      if isStopping { return }
      report(.failed(key, cause, message, help: help, log: Array(lines.suffix(200))))
    case .missing(let object): report(.missing(key, object: object))
    case .broken(let message): report(.failed(key, .other, message, help: nil, log: lines))
    case .cancelled: break
    }
  }

  /// What is wrong when the CUDA device here isn't the one that the action's key names: with another, its result would have
  /// other last digits than the key says.
  private func misplacement(_ assignment: Assignment) -> (message: String, help: String)? {
    guard case .cuda(let wanted)? = assignment.action.device else { return nil }
    let found = device(assignment.action.ranks)
    guard found.name != wanted else { return nil }
    let host = ProcessInfo.processInfo.hostName
    // Asked again by the next run; should that fail, the next job says the same.
    try? ClusterDevices.forget(wanted, in: store)
    let here =
      found.name.map { "a job on \(host) has \($0)" }
      ?? "a job on \(host) has no CUDA device: \(found.problem ?? "none")"
    return (
      "\(here); the run was planned for \(wanted)",
      "run again: jobs are asked anew what they get. Where nodes differ, name one kind: --slurm constraint=…, or "
        + "--slurm-args --gres=gpu:TYPE:\(max(1, assignment.gpus))"
    )
  }

  /// Waits until `condition` holds, at most for `seconds`, else `patience`.
  private func wait(_ seconds: Double? = nil, until condition: () -> Bool) {
    let deadline = Date() + (seconds ?? patience)
    while !condition(), Date() < deadline, !isStopping { usleep(50_000) }
  }

  /// Adds a line to the events, whole: appended with one call, and visible when it returns.
  private func report(_ event: TaskEvent) {
    guard var line = try? JSONEncoder().encode(event) else { return }
    line.append(0x0A)
    let file = open(batch.events(index), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard file >= 0 else { return }
    defer { close(file) }
    // A torn line of an earlier life is ended by its own newline.
    let torn = lseek(file, 0, SEEK_END) > 0 && !endsWithNewline()
    if torn { line.insert(0x0A, at: 0) }
    _ = line.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
  }

  private func endsWithNewline() -> Bool {
    let file = open(batch.events(index), O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return true }
    defer { close(file) }
    var last: UInt8 = 0
    return pread(file, &last, 1, lseek(file, 0, SEEK_END) - 1) != 1 || last == 0x0A
  }
}
