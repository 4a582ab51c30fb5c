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
    let layout = try Layout(root: root, action: action, threads: grant.threads, io: io)
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
    let (status, last, memory) = try spawn(path, words, environment, root, io)
    if stopped.load(ordering: .sequentiallyConsistent) { throw StageCancelled() }
    switch status {
    case .exited(0): return (try layout.collect(), memory)
    case .exited(CommandRunner.rejection): throw ItemRejected(last.isEmpty ? "\(program) refused it" : last)
    case .exited(let code):
      throw StageFailure("\(program) ended with status \(code)\(last.isEmpty ? "" : ": \(last)")")
    case .signal(SIGKILL): throw Killed(description: "\(program) was killed, for want of memory most likely")
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
    _ path: String, _ words: [String], _ environment: [String: String], _ folder: String, _ io: StoreIO
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
    let child = flow_spawn(path, &arguments, &variables, folder, ends[1], &failure)
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

/// The scratch folder of a command: `in/PORT/…`, `out/PORT/…`, `metrics.json`. The command works in it and gets relative
/// paths, so that what it writes doesn't depend on where the cache lies.
private struct Layout {
  private let root: String
  private let action: Action
  private let threads: Int
  private let io: StoreIO

  init(root: String, action: Action, threads: Int, io: StoreIO) throws {
    (self.root, self.action, self.threads, self.io) = (root, action, threads, io)
    try io.scratch.makeFolders("in", action.inputs.keys)
    try io.scratch.makeFolders("out", action.outputs)
    for (port, items) in action.inputs {
      for item in items {
        let folder = item.id.isEmpty ? inFolder(port) : "\(inFolder(port))/\(Results.safe(item.id))"
        for file in item.files {
          try io.materialise(file, at: "\(root)/\(folder)/\(Results.safe(file.name))")
        }
      }
    }
  }

  private func inFolder(_ port: String) -> String { "in/\(port)" }
  private func outFolder(_ port: String) -> String { "out/\(port)" }
  private var metricsFile: String { "metrics.json" }

  /// What the mark stands for: usually one text, for a list one per element.
  private func value(_ mark: CommandTemplate.Mark) throws -> [String] {
    switch mark {
    case .input(let port, nil): return [inFolder(port)]
    case .input(let port, "*"?):
      let files = (action.inputs[port] ?? []).flatMap { item in
        item.files.map { item.id.isEmpty ? $0.name : "\(Results.safe(item.id))/\($0.name)" }
      }
      guard files.count == 1 else {
        throw StageFailure("{in.\(port)/*} is one file, but there are \(files.count)")
      }
      return ["\(inFolder(port))/\(files[0])"]
    case .input(let port, let file?): return ["\(inFolder(port))/\(file)"]
    case .output(let port): return [outFolder(port)]
    case .parameter(let name): return Layout.texts(action.parameters[name] ?? .null)
    case .threads: return ["\(threads)"]
    case .metrics: return [metricsFile]
    }
  }

  private static func texts(_ value: JSON) -> [String] {
    switch value {
    case .array(let values): values.flatMap(texts)
    case .string(let text): [text]
    case .null: []
    default: [value.canonical]
    }
  }

  /// A word with its marks filled: one word, but a word that is nothing but a list's mark becomes as many as it has.
  func filled(_ word: String) throws -> [String] {
    let pieces = CommandTemplate.pieces(word)
    if pieces.count == 1, case .mark(let mark) = pieces[0] { return try value(mark) }
    return [
      try pieces.map { piece in
        switch piece {
        case .text(let text): text
        case .mark(let mark): try value(mark).joined(separator: ",")
        }
      }.joined()
    ]
  }

  /// The values as variables, for a shell.
  var variables: [String: String] {
    func name(_ prefix: String, _ port: String) -> String {
      "FLOW_\(prefix)_" + port.uppercased().map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
    }
    var result = ["FLOW_THREADS": "\(threads)", "FLOW_METRICS": metricsFile]
    for port in action.inputs.keys { result[name("IN", port)] = inFolder(port) }
    for port in action.outputs { result[name("OUT", port)] = outFolder(port) }
    for (parameter, value) in action.parameters {
      result[name("PARAM", parameter)] = Layout.texts(value).joined(separator: " ")
    }
    return result
  }

  /// What the program wrote, as items.
  func collect() throws -> StageContext.Result {
    var result = StageContext.Result()
    for port in action.outputs {
      let folder = "\(root)/\(outFolder(port))"
      let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
      var (own, items) = ([ItemFile](), [Item]())
      for name in names {
        if try isFolder("\(folder)/\(name)") {
          guard !action.perItem else {
            throw StageFailure(
              "the command wrote a folder '\(name)' to {out.\(port)}; an item's files lie side by side")
          }
          let inner = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(name)").sorted()
          items.append(Item(id: name, files: try inner.map { try file("\(folder)/\(name)", $0) }))
        } else {
          own.append(try file(folder, name))
        }
      }
      if !own.isEmpty { items.append(Item(id: action.perItem ? "" : port, files: own)) }
      guard items.contains(where: { !$0.files.isEmpty }) else {
        throw StageFailure("the command wrote nothing to {out.\(port)}")
      }
      result.outputs[port] = items
    }
    if let data = FileManager.default.contents(atPath: "\(root)/\(metricsFile)") {
      guard case .object(let members)? = try? JSON(parsing: data) else {
        throw StageFailure("what the command wrote to {metrics} is not a JSON object of numbers")
      }
      result.metrics = members.compactMapValues(\.number)
    }
    return result
  }

  private func isFolder(_ path: String) throws -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0 else { throw StageFailure("'\(path)' can't be read") }
    switch status.st_mode & S_IFMT {
    case S_IFDIR: return true
    case S_IFREG: return false
    default:
      throw StageFailure(
        "the command wrote '\((path as NSString).lastPathComponent)', which is neither file nor folder")
    }
  }

  private func file(_ folder: String, _ name: String) throws -> ItemFile {
    guard try !isFolder("\(folder)/\(name)") else {
      throw StageFailure("folders within an item ('\(name)') are not kept")
    }
    return try io.store(contentsOf: "\(folder)/\(name)", as: name)
  }
}
