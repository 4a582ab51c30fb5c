public import FlowCore
import FlowPlan
public import FlowStageKit
public import FlowStore
import Foundation
import Synchronization

/// The worker's side: `flow exec`.
public enum Worker {
  /// Serves orders from standard input until it ends (then the process ends at once, whatever it does). Answers go to
  /// what was standard output; standard output itself becomes standard error, so that no library can disturb the answers.
  /// Several ranks serve one order, which the first gets and hands on, and end.
  public static func serve(store: Store, stages: [NativeStage], ranks: any Communicator = SoleRank()) {
    // Who started it says when to stop, and it ends with that one: a signal to the whole group, or a cluster's, reaches
    // both, and what runs gets to its checkpoint.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
    let answers = Frames(dup(1))
    dup2(2, 1)
    let executor = LocalExecutor(store: store, stages: stages, ranks: ranks)
    if ranks.size > 1 { endWithParent() }
    if ranks.rank > 0 { follow(executor, ranks) }
    let isOver = Atomic<Bool>(false)
    let engineHasLeft = DispatchSemaphore(value: 0)
    @Sendable func answer(_ message: WorkerMessage) { answers.send(message.bytes) }
    let work = WorkQueue()
    let reader = Thread {
      let orders = Frames(0)
      while let bytes = orders.receive() {
        switch WorkerOrder(bytes) {
        case .run(let action, let grant): work.add(action, grant)
        case .cancel: executor.cancel()
        case .end:
          // Out of time: what runs is ended with its children, and this worker with it.
          executor.cancel()
          _exit(124)
        case nil: answer(.failed(.other, "the worker got an order that it can't read", "run again"))
        }
      }
      // The engine has gone: so does what runs here, and its children. Ranks that are through take leave of each other.
      engineHasLeft.signal()
      if isOver.load(ordering: .sequentiallyConsistent) { return }
      executor.cancel()
      _exit(0)
    }
    reader.start()
    // On this thread, which ends with the process only: a command's life hangs on the thread that started it.
    while true {
      let (action, grant) = work.next()
      if ranks.size > 1 { share(.run(action, grant), ranks) }
      let outcome = executor.execute(
        action, grant: grant, progress: { answer(.progress($0, $1)) }, log: { answer(.log($0)) })
      isOver.store(ranks.size > 1, ordering: .sequentiallyConsistent)
      switch outcome {
      case .done(let outputs, let metrics, let memory):
        answer(.done(outputs: outputs, metrics: metrics, peakMemory: memory))
      case .rejected(let reason): answer(.rejected(reason))
      case .failed(let cause, let message, let help): answer(.failed(cause, message, help))
      case .missing(let digest): answer(.missing(digest))
      case .broken(let message): answer(.broken(message))
      case .cancelled: answer(.cancelled)
      case .recorded: answer(.failed(.other, "a worker doesn't keep records", nil))
      }
      if ranks.size > 1 {
        // An abort may overtake the answer, which the launcher hands on; the engine leaves when it has it.
        if !outcome.isShared { _ = engineHasLeft.wait(timeout: .now() + 5) }
        leave(outcome, ranks)
      }
    }
  }
}

/// Actions that wait for the worker.
private final class WorkQueue: Sendable {
  private let waiting = Mutex<[(Action, Grant)]>([])
  private let count = DispatchSemaphore(value: 0)

  func add(_ action: Action, _ grant: Grant) {
    waiting.withLock { $0.append((action, grant)) }
    count.signal()
  }

  func next() -> (Action, Grant) {
    while true {
      count.wait()
      if let one = waiting.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return one }
    }
  }
}

/// Runs actions in child processes of this executable. A child that dies takes one action with it.
public final class WorkerPool: Executor {
  private let store: Store
  private let command: [String]
  private struct State {
    /// By the GPUs that they see, for a process sees those with which it began.
    var idle: [[String]: [WorkerProcess]] = [:]
    var busy: [WorkerProcess] = []
    var stopping = false
  }
  private let state = Mutex(State())

  /// Workers that are started as `command` (a path and its arguments).
  public init(store: Store, command: [String]) {
    self.store = store
    self.command = command
  }

  /// See `Executor.cancel()`.
  public func cancel() {
    let children = state.withLock { state in
      state.stopping = true
      return state.busy
    }
    for child in children { child.send(.cancel) }
  }

  /// See `Executor`.
  public func run(
    _ assignment: Assignment, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) async -> ActionOutcome {
    await BlockingThreads.shared.run { [self] in perform(assignment, progress: progress, log: log) }
  }

  /// The same, on the calling thread.
  func perform(_ assignment: Assignment, progress: (Double, String) -> Void, log: (String) -> Void)
    -> ActionOutcome
  {
    let (grant, timeout) = (assignment.grant, assignment.timeout)
    let child: WorkerProcess
    do {
      let ranks = assignment.action.ranks
      let ready = ranks > 1 ? nil : state.withLock { $0.idle[grant.gpus]?.popLast() }
      child = try ready ?? WorkerProcess(command, gpus: grant.gpus, ranks: ranks)
    } catch let error as StageFailure {
      return .failed(.other, error.message, help: error.help)
    } catch {
      return .failed(.other, "can't start a worker: \(error)", help: "run 'flow doctor'")
    }
    let stopping = state.withLock { state in
      state.busy.append(child)
      return state.stopping
    }
    defer { state.withLock { state in state.busy.removeAll { $0 === child } } }
    defer { child.end() }
    if stopping { return .cancelled }
    child.send(.run(assignment.action, grant))
    let deadline = timeout.map { Deadline(child, seconds: $0) }
    defer { deadline?.cancel() }
    while let answer = child.receive() {
      guard let message = WorkerMessage(answer) else { continue }
      var outcome: ActionOutcome?
      switch message {
      case .progress(let fraction, let note): progress(fraction, note)
      case .log(let line): log(line)
      case .done(let outputs, let metrics, let memory):
        outcome = .done(outputs: outputs, metrics: metrics, peakMemory: memory)
      case .rejected(let reason): outcome = .rejected(reason)
      case .failed(let cause, let message, let help): outcome = .failed(cause, message, help: help)
      case .missing(let digest): outcome = .missing(digest)
      case .broken(let message): outcome = .broken(message)
      case .cancelled: outcome = .cancelled
      }
      if let outcome {
        if child.ranks == 1 { state.withLock { $0.idle[grant.gpus, default: []].append(child) } }
        return outcome
      }
    }
    if let timeout, deadline?.hasPassed ?? false {
      return .failed(
        .timeout, String(format: "it took longer than %g s", timeout),
        help: "raise 'timeout', or give it less to do")
    }
    let (cause, message) = child.death()
    // A signal to all of a job ends its launcher before the ranks can answer.
    if child.ranks > 1, state.withLock({ $0.stopping }) { return .cancelled }
    let help =
      child.ranks > 1
      ? "run again: it goes on from its last checkpoint"
      : "the other items went on; 'flow log' shows the last lines"
    return .failed(cause, message, help: help)
  }

  /// Ends a worker that takes too long: asks it to end itself and what it started, then insists.
  private final class Deadline: Sendable {
    private let passed = Atomic<Bool>(false)
    private let over = Atomic<Bool>(false)

    init(_ child: WorkerProcess, seconds: Double) {
      DispatchQueue.global().asyncAfter(deadline: .now() + seconds) { [self] in
        if over.load(ordering: .sequentiallyConsistent) { return }
        passed.store(true, ordering: .sequentiallyConsistent)
        child.send(.end)
        DispatchQueue.global().asyncAfter(deadline: .now() + 2) { child.kill() }
      }
    }

    var hasPassed: Bool { passed.load(ordering: .sequentiallyConsistent) }
    func cancel() { over.store(true, ordering: .sequentiallyConsistent) }
  }
}
