import FlowCore
import FlowPlan
public import FlowStageKit
public import FlowStore
import Foundation
import Synchronization

/// The lines that engine and worker exchange, JSON each.
enum WorkerMessage: Codable, Sendable {
  case progress(Double, String)
  case log(String)
  case done(outputs: [String: [Item]], metrics: [String: Double], peakMemory: Int)
  case rejected(String)
  case failed(FailureCause, String, String?)
  case missing(Digest)
  case broken(String)
  case cancelled
}

/// What the engine asks of a worker.
struct WorkerRequest: Codable, Sendable {
  var action: Action
  var grant: Grant
}

/// The worker's side: `flow exec`.
public enum Worker {
  /// Serves requests from standard input until it ends (then the process ends at once, whatever it does). Answers go to
  /// what was standard output; standard output itself becomes standard error, so that no library can disturb the answers.
  /// "cancel" among the requests asks the running stage to stop.
  public static func serve(store: Store, stages: [NativeStage]) {
    // Who started it says when to stop, and it ends with that one: a signal to the whole group, or a cluster's, reaches
    // both, and what runs gets to its checkpoint.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
    let answers = dup(1)
    dup2(2, 1)
    let executor = LocalExecutor(store: store, stages: stages)
    let output = Mutex(FileHandle(fileDescriptor: answers))
    @Sendable func answer(_ message: WorkerMessage) {
      guard var line = try? JSONEncoder().encode(message) else { return }
      line.append(0x0A)
      output.withLock { $0.write(line) }
    }
    let requests = RequestQueue()
    let reader = Thread {
      while let line = readLine(strippingNewline: true) {
        switch line {
        case "cancel": executor.cancel()
        case "end":
          // Out of time: what runs is ended with its children, and this worker with it.
          executor.cancel()
          _exit(124)
        default: requests.add(line)
        }
      }
      // The engine has gone: so does what runs here, and its children.
      executor.cancel()
      _exit(0)
    }
    reader.start()
    // On this thread, which ends with the process only: a command's life hangs on the thread that started it.
    while true {
      let line = requests.next()
      guard let request = try? JSONDecoder().decode(WorkerRequest.self, from: Data(line.utf8)) else {
        answer(.failed(.other, "the worker got a request that it can't read", nil))
        continue
      }
      let outcome = executor.execute(
        request.action, grant: request.grant, progress: { answer(.progress($0, $1)) },
        log: { answer(.log($0)) })
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
    }
  }
}

/// Lines that wait for the worker.
private final class RequestQueue: Sendable {
  private let lines = Mutex<[String]>([])
  private let count = DispatchSemaphore(value: 0)

  func add(_ line: String) {
    lines.withLock { $0.append(line) }
    count.signal()
  }

  func next() -> String {
    while true {
      count.wait()
      if let line = lines.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return line }
    }
  }
}

/// Runs actions in child processes of this executable. A child that dies takes one action with it.
public final class WorkerPool: Executor {
  private let store: Store
  private let command: [String]
  private struct State {
    /// By the GPUs that they see, for a process sees those with which it began.
    var idle: [[String]: [Child]] = [:]
    var busy: [Child] = []
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
    for child in children { child.send("cancel") }
  }

  /// See `Executor`.
  public func run(
    _ assignment: Assignment, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) async -> ActionOutcome {
    await withCheckedContinuation { continuation in
      // A worker's answers are awaited on a thread of their own, not on one of the cooperative pool.
      let thread = Thread { [self] in
        continuation.resume(
          returning: perform(assignment, progress: progress, log: log))
      }
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  /// The same, on the calling thread.
  func perform(_ assignment: Assignment, progress: (Double, String) -> Void, log: (String) -> Void)
    -> ActionOutcome
  {
    let (grant, timeout) = (assignment.grant, assignment.timeout)
    let child: Child
    let line: String
    do {
      line = String(
        decoding: try JSONEncoder().encode(WorkerRequest(action: assignment.action, grant: grant)),
        as: UTF8.self)
      let ready = state.withLock { $0.idle[grant.gpus]?.popLast() }
      child = try ready ?? Child(command, gpus: grant.gpus)
    } catch {
      return .failed(.other, "can't start a worker: \(error)", help: "run 'flow doctor'")
    }
    let stopping = state.withLock { state in
      state.busy.append(child)
      return state.stopping
    }
    defer { state.withLock { state in state.busy.removeAll { $0 === child } } }
    if stopping { return .cancelled }
    child.send(line)
    let deadline = timeout.map { Deadline(child, seconds: $0) }
    defer { deadline?.cancel() }
    while let answer = child.receive() {
      guard let message = try? JSONDecoder().decode(WorkerMessage.self, from: answer) else { continue }
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
        state.withLock { $0.idle[grant.gpus, default: []].append(child) }
        return outcome
      }
    }
    if let timeout, deadline?.hasPassed ?? false {
      return .failed(
        .timeout, String(format: "it took longer than %g s", timeout),
        help: "raise 'timeout', or give it less to do")
    }
    let (cause, message) = child.death()
    return .failed(cause, message, help: "the other items went on; 'flow log' shows the last lines")
  }

  /// Ends a worker that takes too long: asks it to end itself and what it started, then insists.
  private final class Deadline: Sendable {
    private let passed = Atomic<Bool>(false)
    private let over = Atomic<Bool>(false)

    init(_ child: Child, seconds: Double) {
      DispatchQueue.global().asyncAfter(deadline: .now() + seconds) { [self] in
        if over.load(ordering: .sequentiallyConsistent) { return }
        passed.store(true, ordering: .sequentiallyConsistent)
        child.send("end")
        DispatchQueue.global().asyncAfter(deadline: .now() + 2) { child.kill() }
      }
    }

    var hasPassed: Bool { passed.load(ordering: .sequentiallyConsistent) }
    func cancel() { over.store(true, ordering: .sequentiallyConsistent) }
  }

  /// A worker process and its two pipes.
  private final class Child: Sendable {
    private let process: Process
    private let input: FileHandle
    private let output: FileHandle
    private let buffer = Mutex(Data())

    init(_ command: [String], gpus: [String]) throws {
      signal(SIGPIPE, SIG_IGN)
      let (inputPipe, outputPipe) = (Pipe(), Pipe())
      let process = Process()
      process.executableURL = URL(fileURLWithPath: command[0])
      process.arguments = Array(command.dropFirst())
      process.environment = ProcessInfo.processInfo.environment.merging(
        ["CUDA_VISIBLE_DEVICES": gpus.joined(separator: ",")]) { $1 }
      process.standardInput = inputPipe
      process.standardOutput = outputPipe
      try process.run()
      self.process = process
      input = inputPipe.fileHandleForWriting
      output = outputPipe.fileHandleForReading
    }

    deinit { try? input.close() }

    func send(_ line: String) { try? input.write(contentsOf: Data((line + "\n").utf8)) }

    /// The next line; `nil` when the process has gone.
    func receive() -> Data? {
      while true {
        let line: Data? = buffer.withLock { buffer in
          guard let end = buffer.firstIndex(of: 0x0A) else { return nil }
          let line = buffer[buffer.startIndex..<end]
          buffer.removeSubrange(buffer.startIndex...end)
          return Data(line)
        }
        if let line { return line }
        let more = output.availableData
        if more.isEmpty { return nil }
        buffer.withLock { $0.append(more) }
      }
    }

    func kill() { if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) } }

    func death() -> (FailureCause, String) {
      process.waitUntilExit()
      let code = process.terminationStatus
      guard process.terminationReason == .uncaughtSignal else {
        return (.other, "the worker ended with status \(code)")
      }
      if code == SIGKILL { return (.outOfMemory, "the worker was killed, for want of memory most likely") }
      return (.other, "the worker was ended by signal \(code) (\(String(cString: strsignal(code))))")
    }
  }
}
