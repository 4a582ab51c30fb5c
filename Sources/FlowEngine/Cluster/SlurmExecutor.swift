import FlowCore
public import FlowStore
import Foundation
import Synchronization

/// Runs actions on a Slurm cluster whose nodes see the store, this program, and the working folder. Actions of a stage
/// that come together become one job array. What is done is in the store; what is queued, in Slurm: this process may die
/// at any time, and the next finds both.
public final class SlurmExecutor: Executor {
  /// Processors of a task that takes all threads of a run.
  public let processors: Int
  let store: Store
  let tools: SlurmTools
  let settings: SlurmSettings
  let program: String
  private let inbox = SlurmInbox()

  /// An executor whose tasks run `program`, an absolute path that all nodes see.
  /// - Throws: `Diagnostics` when there is no Slurm here, or it doesn't answer.
  public init(store: Store, program: String, settings: SlurmSettings) throws {
    (self.store, self.settings, self.program) = (store, settings, program)
    do throws(SlurmTools.Failure) {
      tools = try SlurmTools()
      if let given = settings.processors {
        processors = given
      } else {
        processors = min(8, try tools.processors(settings.arguments))
      }
    } catch {
      throw Diagnostics([
        Diagnostic(
          code: "E055", "Slurm can't be used: \(error)",
          help: error.status == 127
            ? "run this where sbatch, squeue, scontrol, scancel and sinfo are found, or without '--on slurm'"
            : "see whether 'sinfo' answers here; without '--on slurm' the run is done on this machine")
      ])
    }
    let (inbox, tools) = (inbox, tools)
    let thread = Thread {
      let loop = SlurmLoop(store: store, tools: tools, settings: settings, program: program)
      var pause: Double? = nil
      while let (arrivals, isStopping) = inbox.next(within: pause) {
        pause = loop.turn(arrivals, isStopping: isStopping)
      }
    }
    thread.start()
  }

  deinit { inbox.close() }

  /// In a line, what Slurm is found here.
  public static func found() -> String {
    do throws(SlurmTools.Failure) { return "\(try SlurmTools().version), it answers" } catch {
      return error.status == 127 ? "not found" : "\(error)"
    }
  }

  /// Each waiting action holds a lock, and a lock is an open file.
  public let elsewhere: Int? = {
    var limit = rlimit()
    let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(kind, &limit) == 0 else { return 500 }
    limit.rlim_cur = min(limit.rlim_max, 1 << 16)
    setrlimit(kind, &limit)
    guard getrlimit(kind, &limit) == 0 else { return 500 }
    return max(16, Int(min(limit.rlim_cur, 1 << 16)) - 256)
  }()

  /// See `Executor`.
  public func run(
    _ assignment: Assignment, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) async -> ActionOutcome {
    await withCheckedContinuation {
      inbox.add(SlurmWaiting(assignment: assignment, progress: progress, log: log, continuation: $0))
    }
  }

  /// Cancels the jobs of this run; stages that can write a checkpoint do so first.
  public func cancel() { inbox.stop() }
}

/// An action that waits for its outcome.
struct SlurmWaiting: Sendable {
  var assignment: Assignment
  let progress: @Sendable (Double, String) -> Void
  let log: @Sendable (String) -> Void
  let continuation: CheckedContinuation<ActionOutcome, Never>
  /// When it came.
  var since = Date()
  /// How often its job was lost.
  var losses = 0

  var key: Digest { assignment.action.key }
}

/// What the executor's thread is given to do.
private final class SlurmInbox: Sendable {
  private struct State {
    var arrivals: [SlurmWaiting] = []
    var isStopping = false
    var isClosed = false
  }
  private let state = Mutex(State())
  private let wake = DispatchSemaphore(value: 0)

  func add(_ waiting: SlurmWaiting) {
    state.withLock { $0.arrivals.append(waiting) }
    wake.signal()
  }

  func stop() {
    state.withLock { $0.isStopping = true }
    wake.signal()
  }

  func close() {
    state.withLock { $0.isClosed = true }
    wake.signal()
  }

  /// What came, after at most `pause` seconds (`nil`: when something came); `nil` when it's over.
  func next(within pause: Double?) -> (arrivals: [SlurmWaiting], isStopping: Bool)? {
    _ = wake.wait(timeout: pause.map { .now() + $0 } ?? .distantFuture)
    return state.withLock { state in
      defer { state.arrivals = [] }
      return state.isClosed ? nil : (state.arrivals, state.isStopping)
    }
  }
}
