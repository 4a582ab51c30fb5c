import CProcess
import FlowCore
import Foundation

/// Slurm's commands: what flow asks of them and how it reads their answers.
struct SlurmTools: Sendable {
  /// The absolute paths of the commands.
  let paths: [String: String]
  /// The largest index of an array is below this.
  let maxArraySize: Int
  /// As sbatch gives it, such as `slurm-wlm 22.05.8`.
  let version: String

  static let names = ["sbatch", "squeue", "scontrol", "scancel", "sinfo"]

  /// A command that failed, and what it said.
  struct Failure: Error, CustomStringConvertible {
    var command: String
    var status: Int32
    var text: String
    var description: String {
      let said = text.split(separator: "\n").suffix(3).joined(separator: "; ")
      return "\(command) \(said.isEmpty ? "ended with status \(status)" : "says: \(said)")"
    }
  }

  /// Finds the commands on the `PATH`, and asks the controller for its limits.
  /// - Throws: `Failure`.
  init() throws(Failure) {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    var paths: [String: String] = [:]
    for name in SlurmTools.names {
      guard
        let path = folders.map({ "\($0)/\(name)" }).first(where: { (path: String) in access(path, X_OK) == 0 }
        )
      else {
        throw Failure(command: name, status: 127, text: "there is no such program on the PATH")
      }
      paths[name] = path
    }
    self.paths = paths
    version = try SlurmTools.call(paths, "sbatch", ["--version"]).trimmingCharacters(
      in: .whitespacesAndNewlines)
    let config = try SlurmTools.call(paths, "scontrol", ["show", "config"])
    let words = config.firstMatch(of: #/MaxArraySize\s*=\s*([0-9]+)/#)
    guard let size = words.flatMap({ Int($0.1) }) else {
      throw Failure(command: "scontrol", status: 0, text: "'show config' names no MaxArraySize")
    }
    maxArraySize = max(1, size)
  }

  /// What the command wrote, both streams together.
  /// - Throws: `Failure` when it can't be started or doesn't end well.
  func call(_ name: String, _ arguments: [String]) throws(Failure) -> String {
    try SlurmTools.call(paths, name, arguments)
  }

  private static func call(_ paths: [String: String], _ name: String, _ arguments: [String]) throws(Failure)
    -> String
  {
    let path = paths[name] ?? name
    var environment = ProcessInfo.processInfo.environment
    environment["LC_ALL"] = "C"
    // Options in the environment would change what these commands print and take.
    for variable in environment.keys where variable.hasPrefix("SQUEUE_") || variable.hasPrefix("SBATCH_") {
      if variable.hasSuffix("_FORMAT") || variable.hasSuffix("_ARRAY_INX") { environment[variable] = nil }
    }
    var ends: [Int32] = [0, 0]
    guard flow_pipe(&ends) == 0 else {
      throw Failure(command: name, status: errno, text: "no pipe: \(String(cString: strerror(errno)))")
    }
    var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] =
      environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in words + variables { free(text) } }
    var failure: Int32 = 0
    let child = flow_spawn(
      path, &words, &variables, FileManager.default.currentDirectoryPath, ends[1], -1, &failure)
    close(ends[1])
    defer { close(ends[0]) }
    guard child > 0 else {
      throw Failure(command: name, status: failure, text: String(cString: strerror(failure)))
    }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(ends[0], &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    let text = String(decoding: bytes, as: UTF8.self)
    let code = status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
    guard code == 0 else { throw Failure(command: name, status: code, text: text) }
    return text
  }

  /// Submits; the job's id.
  /// - Throws: `Failure`, also when the answer is no job id.
  func submit(_ arguments: [String]) throws(Failure) -> Int {
    let answer = try call("sbatch", ["--parsable"] + arguments)
    // `123` or `123;cluster`; warnings come before.
    for line in answer.split(separator: "\n").reversed() {
      if let id = line.split(separator: ";").first.flatMap({ Int($0) }), id > 0 { return id }
    }
    let said = answer.trimmingCharacters(in: .whitespacesAndNewlines).prefix(200)
    throw Failure(command: "sbatch", status: 0, text: "'\(said)', which is no job's number")
  }

  /// What Slurm knows of an array's task.
  struct Status: Sendable, Hashable {
    var job: Int
    var state: State
    /// Why it is in that state.
    var reason: String
  }

  /// What a state means for who waits.
  enum State: Sendable, Hashable {
    /// It waits, runs, or will run again.
    case waiting(String), running(String)
    /// It won't run any more.
    case completed, failed, cancelled, timedOut, outOfMemory
    /// Its node is gone, or others went before it.
    case lost(String)

    init?(_ word: Substring) {
      switch word {
      case "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "SUSPENDED":
        self = .waiting(String(word))
      case "RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED":
        self = .running(String(word))
      case "COMPLETED": self = .completed
      case "FAILED": self = .failed
      case "CANCELLED", "REVOKED": self = .cancelled
      case "TIMEOUT", "DEADLINE": self = .timedOut
      case "OUT_OF_MEMORY": self = .outOfMemory
      case "NODE_FAIL", "BOOT_FAIL", "PREEMPTED": self = .lost(String(word))
      default: return nil
      }
    }

    var isRunning: Bool { if case .running = self { true } else { false } }

    var isLive: Bool {
      switch self {
      case .waiting, .running: true
      default: false
      }
    }
  }

  /// The tasks of the jobs with these names, by name and index.
  /// - Throws: `Failure`, also when a line can't be read.
  func statuses(names: [String]) throws(Failure) -> [String: [Int: Status]] {
    let text = try call(
      "squeue",
      ["--noheader", "--array", "--states=all", "--name=\(names.joined(separator: ","))"]
        + ["--format=%F|%K|%T|%j|%r"])
    var result: [String: [Int: Status]] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("squeue: ") {
      let fields = line.split(separator: "|", maxSplits: 4, omittingEmptySubsequences: false)
      guard fields.count == 5, let job = Int(fields[0]), let task = Int(fields[1]),
        var state = State(fields[2])
      else {
        throw Failure(
          command: "squeue", status: 0, text: "'\(line.prefix(200))', which flow can't read")
      }
      // It would wait for an administrator.
      if fields[4].hasPrefix("launch failed") { state = .lost("its node could not start it") }
      result[String(fields[3]), default: [:]][task] = Status(
        job: job, state: state, reason: String(fields[4]))
    }
    return result
  }

  /// Processors of the largest node that jobs with these options may have.
  /// - Throws: `Failure`.
  func processors(_ arguments: [String]) throws(Failure) -> Int {
    let partition = arguments.filter { $0.hasPrefix("--partition=") }
    let text = try call("sinfo", ["--noheader", "--Node", "--format=%c"] + partition)
    return text.split(separator: "\n").compactMap { Int($0.filter(\.isNumber)) }.max() ?? 1
  }

  /// Bytes of memory that a task was given, and the signal that ended it, as far as Slurm says.
  func details(job: Int, task: Int) -> (memory: Int?, signal: Int32?) {
    guard let text = try? call("scontrol", ["--oneliner", "show", "job", "\(job)_\(task)"]) else {
      return (nil, nil)
    }
    let factors: [Substring: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
    let memory = text.firstMatch(of: #/TRES=\S*?mem=([0-9]+)([KMGT])/#).flatMap { match in
      Int(match.1).flatMap { number in factors[match.2].map { number * $0 } }
    }
    let signal = text.firstMatch(of: #/\bExitCode=[0-9]+:([0-9]+)/#).flatMap { Int32($0.1) }
    return (memory, signal == 0 ? nil : signal)
  }
}
