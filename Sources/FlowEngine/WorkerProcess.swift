import FlowCore
import FlowPlan
import Foundation
import Synchronization

/// A worker process and its pipes; of several ranks, their launcher's.
final class WorkerProcess: Sendable {
  /// How many ranks it is.
  let ranks: Int
  private let process: Process
  private let input: FileHandle, output: FileHandle
  private let orders: Frames, answers: Frames
  /// What ranks and their launcher write, which one worker's parent lets through.
  private let complaints: Complaints?

  /// Starts a worker, or `ranks` of it.
  /// - Throws: what keeps it from starting; `StageFailure` when there is no launcher for ranks.
  init(_ command: [String], gpus: [String], ranks: Int) throws {
    signal(SIGPIPE, SIG_IGN)
    let environment = ProcessInfo.processInfo.environment.merging(
      ["CUDA_VISIBLE_DEVICES": gpus.joined(separator: ",")]) { $1 }
    let words =
      ranks > 1
      ? try RankLauncher.command(command, ranks: ranks, environment: environment) : command
    let (inputPipe, outputPipe, errorPipe) = (Pipe(), Pipe(), ranks > 1 ? Pipe() : nil)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: words[0])
    process.arguments = Array(words.dropFirst())
    process.environment = environment
    process.standardInput = inputPipe
    process.standardOutput = outputPipe
    if let errorPipe { process.standardError = errorPipe }
    if ranks > 1 {
      try RankLauncher.deafToInterrupts(process.run)
    } else {
      try process.run()
    }
    self.ranks = ranks
    self.process = process
    input = inputPipe.fileHandleForWriting
    output = outputPipe.fileHandleForReading
    complaints = errorPipe.map { Complaints($0.fileHandleForReading) }
    (orders, answers) = (Frames(input.fileDescriptor), Frames(output.fileDescriptor))
  }

  deinit { try? input.close() }

  func send(_ order: WorkerOrder) { orders.send(order.bytes) }

  /// The next answer; `nil` when the process has gone.
  func receive() -> [UInt8]? { answers.receive() }

  func kill() { if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) } }

  /// Waits until ranks are gone; one worker goes on to the next action.
  func end() {
    guard ranks > 1 else { return }
    try? input.close()
    for _ in 0..<500 where process.isRunning { usleep(10_000) }
    kill()
    process.waitUntilExit()
  }

  /// Why the process has gone.
  func death() -> (FailureCause, String) {
    process.waitUntilExit()
    let code = process.terminationStatus
    if process.terminationReason == .uncaughtSignal {
      if code == SIGKILL { return (.outOfMemory, "the worker was killed, for want of memory most likely") }
      return (.other, "the worker was ended by signal \(code) (\(String(cString: strsignal(code))))")
    }
    guard let text = complaints?.text() else { return (.other, "the worker ended with status \(code)") }
    if let (rank, number) = RankLauncher.signalled(text) {
      let name = String(cString: strsignal(number))
      return number == SIGKILL
        ? (
          .outOfMemory,
          "rank \(rank) of \(ranks) was killed, for want of memory most likely; the others ended with it"
        )
        : (.other, "rank \(rank) of \(ranks) was ended by signal \(number) (\(name)), and the others with it")
    }
    let gist = RankLauncher.gist(text)
    return (.other, "the \(ranks) ranks ended with status \(code)\(gist.isEmpty ? "" : ": \(gist)")")
  }

  /// The last of what comes through a pipe, read as it comes so that nobody waits for it.
  private final class Complaints: Sendable {
    private let bytes = Mutex<[UInt8]>([])
    private let done = DispatchSemaphore(value: 0)

    init(_ file: FileHandle) {
      let thread = Thread { [self] in
        while true {
          let more = file.availableData
          if more.isEmpty { break }
          bytes.withLock { bytes in
            bytes += more
            if bytes.count > 1 << 16 { bytes.removeFirst(bytes.count - 1 << 15) }
          }
        }
        done.signal()
      }
      thread.start()
    }

    /// All of it, once the process has gone; a child of it may still hold the pipe.
    func text() -> String {
      _ = done.wait(timeout: .now() + 1)
      return bytes.withLock { String(decoding: $0, as: UTF8.self) }
    }
  }
}
