import FlowCore
import FlowPlan
import FlowStore
import Foundation

/// What the Slurm executor does, turn by turn, on one thread: submits what came, follows what is queued, and gives every
/// action its outcome. Outcomes are read from the store; Slurm is asked for what the store can't know: that a task has
/// ended without saying so.
final class SlurmLoop {
  private let store: Store
  private let tools: SlurmTools
  private let settings: SlurmSettings
  private let program: String
  /// Not submitted yet.
  private var pending: [SlurmWaiting] = []
  /// An earlier process submitted them; whether they are still queued is not known yet.
  private var noted: [SlurmWaiting] = []
  private var tasks: [SlurmTask] = []
  /// Bytes that actions without declared memory had when they ran out of it.
  private var granted: [Digest: Int] = [:]
  private var interval: Double
  private var nextPoll = Date.distantPast
  /// When the queue could first not be read, if it can't.
  private var unreadableSince: Date?
  private var nextSubmission = Date.distantPast
  private var stoppedAt: Date?
  private var isInsisting = false

  init(store: Store, tools: SlurmTools, settings: SlurmSettings, program: String) {
    self.store = store
    self.tools = tools
    self.settings = settings
    self.program = program
    interval = settings.poll
  }

  /// One turn; seconds until the next is due, `nil` when nothing is open.
  func turn(_ arrivals: [SlurmWaiting], isStopping: Bool) -> Double? {
    for waiting in arrivals {
      if store.noted(waiting.key) == nil { pending.append(waiting) } else { noted.append(waiting) }
    }
    if !noted.isEmpty, !arrivals.isEmpty { nextPoll = .distantPast }
    if isStopping { stop() } else { submit() }
    for task in tasks { task.read(store) }
    let now = Date()
    if now >= nextPoll, !(tasks.isEmpty && noted.isEmpty) {
      poll()
      interval = min(interval * 1.5, settings.pollMost)
      nextPoll = Date() + interval
    }
    close()
    if pending.isEmpty, noted.isEmpty, tasks.isEmpty { return nil }
    if !pending.isEmpty { return max(0.01, min(settings.gather, 0.5)) }
    return max(0.01, min(interval, max(settings.poll, 3)))
  }

  // MARK: Submitting

  private func submit() {
    guard Date() >= nextSubmission else { return }
    var groups: [[SlurmWaiting]] = []
    var places: [String: Int] = [:]
    for waiting in pending {
      let work = waiting.assignment
      let kind =
        "\(work.action.ranks) \(work.grant.threads) \(memory(work) ?? 0) \(work.gpus) \(work.timeout ?? 0) \(work.stage)"
      if let place = places[kind] {
        groups[place].append(waiting)
      } else {
        places[kind] = groups.count
        groups.append([waiting])
      }
    }
    pending = []
    for group in groups {
      let newest = group.map(\.since).max() ?? .distantPast
      let company = group.map(\.assignment.company).max() ?? 0
      if group.count == company || Date().timeIntervalSince(newest) >= settings.gather {
        submit(group)
      } else {
        pending += group
      }
    }
  }

  private func memory(_ work: Assignment) -> Int? {
    if work.grant.memory > 0 { return (work.grant.memory + SlurmJob.overhead) * work.growth }
    return work.growth > 1 ? 2 * (granted[work.action.key] ?? 1 << 30) : nil
  }

  private func submit(_ unsorted: [SlurmWaiting]) {
    let group = unsorted.sorted { $0.key.hex < $1.key.hex }
    let first = group[0].assignment
    let job = SlurmJob(
      batch: Batch.new(store, stage: first.stage),
      tasks: SlurmJob.split(group.map(\.assignment), settings, maxArraySize: tools.maxArraySize),
      memory: memory(first))
    do {
      for (index, task) in job.tasks.enumerated() {
        let document = try JSONEncoder().encode(TaskDocument(assignments: task))
        try store.publish(Array(document), at: job.batch.document(index))
        // Before the submission: should this process die, the next finds the job by its name.
        for work in task { try store.note(work.action.key, job.batch, task: index) }
      }
      let script = SlurmJob.script(
        program: program, store: store, batch: job.batch, ranks: first.action.ranks,
        environment: ProcessInfo.processInfo.environment)
      try store.publish(Array(script.utf8), at: job.batch.script, mode: 0o755)
    } catch {
      for waiting in group { waiting.continuation.resume(returning: .failed(.other, "\(error)", help: nil)) }
      return
    }
    let folder = FileManager.default.currentDirectoryPath
    let number: Int
    do {
      number = try tools.submit(job.arguments(settings, folder: folder) + [job.batch.script])
    } catch {
      refused(group, job, error)
      return
    }
    var place = 0
    for (index, task) in job.tasks.enumerated() {
      tasks.append(
        SlurmTask(job.batch, index: index, job: number, Array(group[place..<place + task.count])))
      place += task.count
    }
    for waiting in group.prefix(1) { waiting.progress(0, "job \(number) is submitted") }
    hurry()
  }

  /// What a controller that is busy or restarting says, or one whose limits leave no room now.
  private static func isPassing(_ text: String) -> Bool {
    text.contains(#/(?i)timed out|temporarily|unable to contact|submit limit|try again/#)
  }

  private func refused(_ group: [SlurmWaiting], _ job: SlurmJob, _ error: SlurmTools.Failure) {
    if SlurmLoop.isPassing(error.text) {
      // Its answer may be lost though it took the job; then the queue has it by its name.
      noted += group
      nextSubmission = Date() + min(30, max(interval, settings.poll) * 4)
      nextPoll = Date() + interval
      group.first?.progress(0, "\(error); waiting")
      return
    }
    for waiting in group {
      store.removeNote(waiting.key)
      waiting.continuation.resume(
        returning: .failed(
          .other, "\(error)",
          help: "see --slurm partition=…, account=… and --slurm-args; nothing was submitted"))
    }
    try? FileManager.default.removeItem(atPath: job.batch.folder)
  }

  private func hurry() {
    interval = settings.poll
    nextPoll = Date() + interval
  }

  // MARK: Following

  private func poll() {
    let batches = Set(tasks.map(\.batch.id)).union(noted.compactMap { store.noted($0.key)?.batch.id })
    let statuses: [String: [Int: SlurmTools.Status]]
    do {
      statuses = batches.isEmpty ? [:] : try tools.statuses(names: batches.sorted())
      unreadableSince = nil
    } catch {
      unreadable(error)
      return
    }
    adopt(statuses)
    for task in tasks {
      if task.update(statuses[task.batch.id]?[task.index]) { hurry() }
    }
  }

  private func unreadable(_ error: SlurmTools.Failure) {
    let since = unreadableSince ?? Date()
    unreadableSince = since
    guard Date().timeIntervalSince(since) >= settings.patience else {
      (tasks.first?.open.first ?? noted.first)?.progress(0, "\(error); waiting")
      return
    }
    let outcome = ActionOutcome.failed(
      .other, "\(error)", help: "the jobs may still run: the same command finds what they give")
    for waiting in noted + tasks.flatMap(\.open) { waiting.continuation.resume(returning: outcome) }
    noted = []
    tasks = []
    unreadableSince = nil
  }

  /// Joins what an earlier process submitted, if it is still queued; the rest is submitted.
  private func adopt(_ statuses: [String: [Int: SlurmTools.Status]]) {
    for waiting in noted {
      guard let (batch, index) = store.noted(waiting.key),
        let status = statuses[batch.id]?[index], status.state.isLive
      else {
        pending.append(waiting)
        continue
      }
      if let task = tasks.first(where: { $0.batch == batch && $0.index == index }) {
        task.add(waiting)
      } else {
        tasks.append(SlurmTask(batch, index: index, job: status.job, [waiting]))
      }
      waiting.progress(0, "job \(status.job) of an earlier run is waited for")
    }
    noted = []
  }

  /// Gives their outcome to actions whose task has ended, and forgets tasks that have none left.
  private func close() {
    for task in tasks {
      guard let ended = task.endedSince, !task.open.isEmpty else { continue }
      let hasWaited = Date().timeIntervalSince(ended) >= settings.visibility
      if stoppedAt != nil || hasWaited { conclude(task) }
    }
    let over = tasks.filter(\.open.isEmpty)
    tasks.removeAll { $0.open.isEmpty }
    for task in over where !tasks.contains(where: { $0.batch == task.batch }) && !task.hasFailures {
      // Kept where something failed, for a person to look at.
      try? FileManager.default.removeItem(atPath: task.batch.folder)
    }
  }

  private func conclude(_ task: SlurmTask) {
    if stoppedAt != nil { return task.settleAll(.cancelled) }
    let (blame, number) = (task.current, "job \(task.job)_\(task.index)")
    func fail(_ cause: FailureCause, _ message: String, _ help: String?) {
      let outcome = ActionOutcome.failed(cause, message, help: help)
      // Those of the task that had not begun are not to blame.
      guard let blame else { return task.settleAll(outcome) }
      task.settle(blame, outcome)
      again(task, lost: false, nil)
    }
    switch task.state {
    case .outOfMemory: fail(.outOfMemory, outOfMemory(task), nil)
    case .timedOut:
      fail(
        .timeout, "\(number) reached Slurm's time limit",
        "'retry: {timeout: 3}' lets it go on from its checkpoint; or --slurm-args --time=…")
    case .failed where task.wasStopped, .completed where task.wasStopped:
      again(task, lost: true, "\(number) was stopped by a signal")
    case .completed where !task.hasBegun:
      // What Slurm calls a job that its node could not start; or the cache is not the one that is seen here.
      again(task, lost: true, "\(number) has ended without having begun")
    case .lost(let word):
      // Another takes its place. One that has ended already refuses, which is as well.
      _ = try? tools.call("scancel", ["\(task.job)_\(task.index)"])
      again(task, lost: true, "\(number): \(word)")
    case nil, .waiting, .running: again(task, lost: true, "\(number) is gone from Slurm's queue")
    case .cancelled: task.settleAll(.failed(.other, "\(number) was cancelled in Slurm", help: nil))
    case .completed:
      task.settleAll(
        .failed(
          .other, "\(number) has ended, but its result can't be seen here",
          help: "the cache must be on a file system that this machine and all nodes share"))
    case .failed:
      if tools.details(job: task.job, task: task.index).signal == SIGKILL {
        return fail(.outOfMemory, outOfMemory(task), nil)
      }
      let words = task.batch.lastWords(task.index)
      fail(
        .other, "\(number) failed\(words.isEmpty ? "" : ": \(words)")",
        "'\(task.batch.log(task.index))' is its log; the nodes must see \(program)")
    }
  }

  private func outOfMemory(_ task: SlurmTask) -> String {
    let memory = tools.details(job: task.job, task: task.index).memory
    if let memory, let key = task.current { granted[key] = memory }
    let had = memory.map { " of \($0 / 1_048_576) MiB" } ?? ""
    return "job \(task.job)_\(task.index) ran out of its memory\(had)"
  }

  /// What is left of a task is submitted anew; a stage goes on from its checkpoint.
  private func again(_ task: SlurmTask, lost: Bool, _ why: String?) {
    for var waiting in task.takeAll() {
      store.removeNote(waiting.key)
      if lost { waiting.losses += 1 }
      waiting.assignment.company = 0
      waiting.since = Date()
      if let why {
        guard waiting.losses <= settings.losses else {
          waiting.continuation.resume(
            returning: .failed(.other, "\(why) (\(waiting.losses) times)", help: "see 'sinfo'"))
          continue
        }
        waiting.log("\(why); it is submitted again")
        waiting.progress(0, "\(why); it is submitted again")
      }
      pending.append(waiting)
    }
  }

  // MARK: Stopping

  /// Cancels every job, and waits a little for checkpoints to be written.
  private func stop() {
    for waiting in pending + noted { waiting.continuation.resume(returning: .cancelled) }
    pending = []
    noted = []
    guard let begun = stoppedAt else {
      stoppedAt = Date()
      // A signal to the whole job would end what holds its ranks together; to its script, all get to their checkpoint.
      let ranked = tasks.filter {
        $0.state?.isRunning ?? false && $0.open.contains { $0.assignment.action.ranks > 1 }
      }
      let jobs = Set(ranked.map(\.job))
      cancel(jobs, ["--batch", "--signal=TERM"])
      cancel(Set(tasks.map(\.job)).subtracting(jobs))
      hurry()
      return
    }
    if Date().timeIntervalSince(begun) > 10, !isInsisting {
      isInsisting = true
      cancel(Set(tasks.map(\.job)))
    }
    interval = settings.poll
    if Date().timeIntervalSince(begun) > 15 { for task in tasks { task.settleAll(.cancelled) } }
  }

  private func cancel(_ jobs: Set<Int>, _ options: [String] = []) {
    guard !jobs.isEmpty else { return }
    do { _ = try tools.call("scancel", options + jobs.sorted().map(String.init)) } catch {
      tasks.first?.open.first?.progress(0, "\(error)")
    }
  }
}
