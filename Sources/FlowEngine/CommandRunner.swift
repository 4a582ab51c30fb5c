import CProcess
import FlowCore
import FlowStageKit
import FlowStore
import Foundation
import Synchronization

/// Runs the program of a command stage for one action: inputs are laid out in a scratch folder, the environment is what
/// was declared, nothing goes through a shell unless the stage says so, and what the program wrote becomes items.
final class CommandRunner: Sendable {
  /// The process group that is running; 0 when none is.
  private let running = Atomic<Int32>(0)
  private let stopped = Atomic<Bool>(false)

  /// Ends what is running, with all its children.
  func kill() {
    stopped.store(true, ordering: .sequentiallyConsistent)
    let group = running.load(ordering: .sequentiallyConsistent)
    if group > 0 { Foundation.kill(-group, SIGKILL) }
  }

  /// The exit status by which a program sets its item aside (EX_DATAERR).
  static let rejection: Int32 = 65

  /// What the program gave, and the most memory that it held, in bytes.
  /// - Throws: `ItemRejected`, `StageFailure`, `StageCancelled`; store errors.
  func run(_ command: CommandTemplate, _ action: Action, _ grant: Grant, _ io: StoreIO) throws
    -> (StageContext.Result, memory: Int)
  {
    let root = URL(fileURLWithPath: io.scratchDirectory).standardizedFileURL.path
    let layout = try CommandLayout(root: root, action: action, threads: grant.threads, io: io)
    var words = command.words
    var environment = [
      "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
      "HOME": root, "TMPDIR": root, "LANG": "C.UTF-8",
      "CUDA_VISIBLE_DEVICES": grant.gpus.joined(separator: ","),
    ]
    for (name, value) in command.environment {
      environment[name] = try layout.filled(value).joined(separator: " ")
    }
    if command.shell {
      environment.merge(layout.variables) { $1 }
      words = ["/bin/sh", "-c", words.joined(separator: " ")]
    } else {
      words = try words.flatMap(layout.filled)
    }
    guard let program = words.first, !words.contains(where: { $0.contains("\0") }) else {
      throw StageFailure("the command is empty or holds a NUL")
    }
    guard let path = CommandRunner.find(program, environment["PATH"] ?? "") else {
      throw StageFailure(
        "there is no program '\(program)'",
        help: "install it, or put its folder into PATH: \(environment["PATH"] ?? "")")
    }
    let sandbox =
      command.sandbox ? Sandbox(program: path, action: action, reads: command.reads, scratch: root) : nil
    let (status, last, memory) = try spawn(path, words, environment, root, sandbox, io)
    if stopped.load(ordering: .sequentiallyConsistent) { throw StageCancelled() }
    switch status {
    case .exited(0): return (try layout.collect(), memory)
    case .exited(CommandRunner.rejection): throw ItemRejected(last.isEmpty ? "\(program) refused it" : last)
    // A shell says so of what it ran by the status.
    case .signal(SIGKILL), .exited(128 + SIGKILL):
      throw Killed(description: "\(program) was killed, for want of memory most likely")
    case .exited(let code):
      throw StageFailure(
        "\(program) ended with status \(code)\(last.isEmpty ? "" : ": \(last)")",
        help: sandbox != nil && last.lowercased().contains("permission denied") ? Sandbox.help : nil)
    case .signal(let number):
      throw StageFailure("\(program) was ended by signal \(number) (\(String(cString: strsignal(number))))")
    }
  }

  /// The program was killed, by the kernel most likely.
  struct Killed: Error, CustomStringConvertible {
    let description: String
  }

  private enum Status {
    case exited(Int32)
    case signal(Int32)
  }

  private static func find(_ program: String, _ path: String) -> String? {
    if program.contains("/") { return access(program, X_OK) == 0 ? program : nil }
    return path.split(separator: ":").map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
  }

  private func spawn(
    _ path: String, _ words: [String], _ environment: [String: String], _ folder: String,
    _ sandbox: Sandbox?, _ io: StoreIO
  ) throws -> (Status, last: String, memory: Int) {
    var ends: [Int32] = [0, 0]
    guard flow_pipe(&ends) == 0 else {
      throw StageFailure("no pipe: \(String(cString: strerror(errno)))")
    }
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] =
      environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in arguments + variables { free(text) } }
    var failure: Int32 = 0
    let child = flow_spawn(path, &arguments, &variables, folder, ends[1], sandbox?.rules ?? -1, &failure)
    close(ends[1])
    defer { close(ends[0]) }
    guard child > 0 else {
      throw StageFailure("'\(path)' can't be started: \(String(cString: strerror(failure)))")
    }
    running.store(child, ordering: .sequentiallyConsistent)
    defer { running.store(0, ordering: .sequentiallyConsistent) }
    if stopped.load(ordering: .sequentiallyConsistent) { Foundation.kill(-child, SIGKILL) }
    let status = follow(child, ends[0], io)
    // What it left behind goes with it.
    Foundation.kill(-child, SIGKILL)
    return status
  }

  /// Passes the program's lines on until it has ended; its status, its last line, the most memory it held in bytes.
  private func follow(_ child: Int32, _ descriptor: Int32, _ io: StoreIO)
    -> (Status, last: String, memory: Int)
  {
    var (pending, last, status, usage) = ([UInt8](), "", Int32(0), rusage())
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    func take(_ line: some Collection<UInt8>) {
      let text = String(decoding: line, as: UTF8.self)
      if text.contains(where: { !$0.isWhitespace }) { last = String(text.prefix(500)) }
      io.log(text)
    }
    var ended = false
    while true {
      var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let ready = poll(&poller, 1, ended ? 0 : 200)
      if ready > 0 {
        let count = read(descriptor, &buffer, buffer.count)
        if count > 0 {
          pending += buffer[..<count]
          while let end = pending.firstIndex(of: 0x0A) {
            take(pending[..<end])
            pending.removeSubrange(...end)
          }
          if pending.count > 1 << 16 {
            take(pending)
            pending = []
          }
          continue
        }
        if count < 0, errno == EINTR { continue }
      }
      if ended { break }
      // The pipe is closed, or a child of it may still hold it open.
      if wait4(child, &status, ready > 0 ? 0 : WNOHANG, &usage) == child { ended = true }
    }
    if !pending.isEmpty { take(pending) }
    let signal = status & 0x7F
    return (signal == 0 ? .exited((status >> 8) & 0xFF) : .signal(signal), last, usage.ru_maxrss * 1024)
  }
}
