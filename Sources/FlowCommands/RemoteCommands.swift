import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStore
import Foundation

/// What `push` and `pull` take.
struct RemoteOptions: ParsableArguments {
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  private var pipeline: PipelineOptions { PipelineOptions(word: word, shared: shared) }
  @Flag(name: .long, help: "Everything, not one pipeline's.") var all = false
  @Option(
    name: .long,
    help: "Another remote than flow.yaml's: a folder, or one of rclone's, such as s3:bucket/flow.")
  var remote: String?
  @Flag(name: .long, help: "No progress.") var quiet = false

  /// Opens project and remote, does `body`, and says what was moved.
  func exchange(_ verb: String, _ body: @escaping (RemoteCache, Plan?, Engine) throws -> RemoteCache.Tally)
    async throws
  {
    try await reporting(json: pipeline.json, noColor: pipeline.noColor) {
      let project = all ? nil : try Project(pipeline)
      let root = project?.root ?? Project.root(from: pipeline.pipeline)
      let store = try project?.store ?? Project.store(root)
      let address = try RemoteOptions.address(remote, root: root).address
      let cache = try RemoteCache(address, store: store) { [quiet] step in
        if !quiet { Terminal.error("\(verb): \(step.files) of \(step.of) files, \(step.bytes >> 20) MiB") }
      }
      let interrupts = Interrupts("what was moved stays") { cache.cancel() }
      defer { cache.close() }
      let engine =
        project?.engine(jobs: nil)
        ?? Engine(store: store, executor: LocalExecutor(store: store, stages: []), jobs: 1)
      let tally: RemoteCache.Tally
      do { tally = try body(cache, project?.plan, engine) } catch RemoteError.interrupted {
        throw ExitCode(interrupts.exitCode ?? 130)
      }
      show(verb, address, tally)
      if !tally.refused.isEmpty { throw ExitCode(1) }
    }
  }

  private func show(_ verb: String, _ address: String, _ tally: RemoteCache.Tally) {
    if pipeline.json {
      return Terminal.out(
        JSON.object([
          "schema": .string("flow.\(verb)/1"), "remote": .string(address), "objects": .int(tally.objects),
          "records": .int(tally.records), "bytes": .int(tally.bytes), "present": .int(tally.present),
          "absent": .int(tally.absent), "refused": .array(tally.refused.map { .string($0) }),
          "open": .array(tally.open.map { .string($0) }),
        ]).pretty)
    }
    let (moved, preposition) = verb == "push" ? ("sent", "to") : ("fetched", "from")
    Terminal.out(
      "\(moved) \(tally.objects) objects and \(tally.records) records, \(tally.bytes >> 10) KiB, \(preposition) \(address); "
        + "\(tally.present) were there")
    if tally.absent > 0 {
      Terminal.out("\(tally.absent) objects are not there; whoever needs one makes it again")
    }
    for line in tally.refused { Terminal.error("refused: \(line)") }
    if !tally.open.isEmpty {
      let next = verb == "push" ? "'flow run', then push again" : "'flow run' does them"
      Terminal.error("not done: \(tally.open.joined(separator: ", ")); \(next)")
    }
  }

  /// The remote's address and where it was set.
  static func address(_ given: String?, root: String) throws -> (address: String, origin: String) {
    let path = root == "." ? ProjectFile.name : root + "/" + ProjectFile.name
    var (text, origin) = (given, "--remote")
    if text == nil {
      (text, origin) = (ProcessInfo.processInfo.environment["FLOW_REMOTE"], "FLOW_REMOTE")
    }
    if text == nil, FileManager.default.fileExists(atPath: path) {
      let file = try ProjectFile(file: path, text: FileText.read(path))
      text = file.remote
      origin = file.remotePlace.map { "\($0.file):\($0.line):\($0.column)" } ?? path
    }
    guard let text, ProjectFile.isAddress(text) else {
      throw Diagnostics([
        Diagnostic(
          code: "E045", text.map { "'\($0)' can't be a remote" } ?? "no remote is set",
          help: "flow cache remote s3:bucket/flow (or a folder, or any of 'rclone listremotes')")
      ])
    }
    // A colon before the first slash is rclone's; all else is a folder.
    if text.prefix(while: { $0 != "/" }).contains(":") || text.hasPrefix("/") { return (text, origin) }
    return (root == "." ? text : root + "/" + text, origin)
  }
}

extension RemoteError {
  /// What is wrong and what to do.
  var diagnostic: Diagnostic {
    switch self {
    case .noRclone:
      Diagnostic(code: "E046", "there is no program 'rclone'", help: "sudo apt-get install rclone")
    case .failed(let remote, let said):
      Diagnostic(
        code: "E047", "the remote '\(remote)' can't be used",
        notes: said.split(separator: "\n").map(String.init),
        help: "try 'rclone lsf \(remote)'; what was moved stays, and the same command goes on")
    case .nothingThere(let remote):
      Diagnostic(
        code: "E048", "there is nothing at '\(remote)'", help: "flow cache push, where the results are")
    case .interrupted: Diagnostic(code: "E047", "interrupted")
    }
  }
}

extension Cache {
  struct Push: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "push",
      abstract: "Sends a pipeline's results to the remote, as far as it lacks them.")
    @OptionGroup var options: RemoteOptions

    func run() async throws { try await options.exchange("push") { try $0.push($1, engine: $2) } }
  }

  struct Pull: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "pull",
      abstract: "Fetches what a pipeline would have to make and the remote has; each piece is checked.")
    @OptionGroup var options: RemoteOptions

    func run() async throws { try await options.exchange("pull") { try $0.pull($1, engine: $2) } }
  }

  struct RemoteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "remote", abstract: "Shows the remote, or sets it in flow.yaml.")
    @Argument(help: "A folder, or one of rclone's remotes with a path, such as s3:bucket/flow.") var address:
      String?

    func run() async throws {
      try await reporting {
        let root = Project.root(from: nil)
        guard let address else {
          let (found, origin) = try RemoteOptions.address(nil, root: root)
          return Terminal.out("\(found)   (\(origin))")
        }
        guard ProjectFile.isAddress(address) else {
          throw Diagnostics([
            Diagnostic(code: "E045", "'\(address)' can't be a remote", help: "such as s3:bucket/flow")
          ])
        }
        let path = ProjectFile.name
        let old = FileManager.default.fileExists(atPath: path) ? try FileText.read(path) : ""
        let text = try ProjectFile.setting(remote: address, in: old, file: path)
        try Project.store(root).publish(Array(text.utf8), at: path)
        Terminal.out("\(path) says now: cache: { remote: \(address) }")
      }
    }
  }
}
