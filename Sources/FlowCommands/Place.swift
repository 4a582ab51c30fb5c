import ArgumentParser
import FlowCore
import FlowEngine
import FlowMPI
import FlowPlan
import FlowStages
import FlowStore
import Foundation

/// Where a run's actions run.
struct PlaceOptions: ParsableArguments {
  enum Place: String, ExpressibleByArgument, CaseIterable {
    case local, slurm
  }

  @Option(name: .long, help: "Where stages run: here (local), or as job arrays of a Slurm cluster (slurm).")
  var on = Place.local

  @Option(
    name: .long, help: "A setting for Slurm, such as partition=gpu; see docs/slurm.md. May be repeated.")
  var slurm: [String] = []

  @Option(
    name: .long, parsing: .unconditionalSingleValue,
    help: "More options for every sbatch, such as \"--qos=long\".")
  var slurmArgs: [String] = []

  /// How Slurm is used; `nil` when the run is not for it.
  /// - Throws: `Diagnostics`.
  private func settings(_ project: Project) throws -> SlurmSettings? {
    guard on == .slurm else {
      if let stray = slurm.first ?? slurmArgs.first {
        throw Diagnostics([
          Diagnostic(code: "E017", "'\(stray)' is for Slurm, but the run is not", help: "add '--on slurm'")
        ])
      }
      return nil
    }
    let file = project.root == "." ? ProjectFile.name : project.root + "/" + ProjectFile.name
    let standing =
      access(file, F_OK) == 0 ? try ProjectFile(file: file, text: FileText.read(file)).slurm : []
    return try SlurmSettings(standing + slurm + slurmArgs.map { "args=\($0)" })
  }

  /// An engine that says what would be done there. What devices a cluster's jobs get it takes as it is known.
  /// - Throws: `Diagnostics`.
  func inspector(_ project: Project) throws -> Engine {
    var engine = project.engine(jobs: nil)
    if let settings = try settings(project) {
      let known = ClusterDevices.known(settings.arguments, in: project.store)
      engine.accelerator = { known?.name($0, $1) }
    }
    return engine
  }

  /// The project's engine there, for the stages in `only`. On a cluster, a job may be waited for that says what device jobs get.
  /// - Throws: `Diagnostics`; `ExitCode` when that was interrupted.
  func engine(
    _ project: Project, only: Set<String>?, jobs: Int?, gpus: String?,
    observe: @escaping @Sendable (RunEvent) -> Void
  ) async throws -> Engine {
    guard let settings = try settings(project) else {
      try project.requireDevices(only)
      return project.engine(jobs: jobs, gpus: gpus, observe: observe)
    }
    // A job starts in the submitter's folder, but its cache must not depend on that.
    let store = try Store(root: URL(fileURLWithPath: project.store.root).standardizedFileURL.path)
    let executor = try SlurmExecutor(store: store, program: Exec.program, settings: settings)
    var engine = Engine(
      store: store, executor: executor, capacity: .cluster(threads: jobs ?? executor.processors),
      observe: observe)
    engine.processor = Project.processor
    let asking = project.plan.stages.filter { $0.device == "cuda" && only?.contains($0.name) ?? true }
    guard !asking.isEmpty else { return engine }
    let interrupts = Interrupts("nothing was run") {}
    let answer: ClusterDevices.Answer
    do {
      answer = try await executor.devices(
        for: Set(asking.map(\.ranks)), say: { Terminal.error($0) },
        isCancelled: { interrupts.exitCode != nil })
    } catch is CancellationError { throw ExitCode(interrupts.exitCode ?? 130) }
    engine.accelerator = { answer.name($0, $1) }
    if let lacking = asking.first(where: { answer.device($0.ranks).name == nil }) {
      throw Diagnostics([
        Diagnostic(
          code: "E035",
          "stage '\(lacking.name)' asks for 'device: cuda'\(lacking.ranks > 1 ? " on \(lacking.ranks) ranks" : ""), and "
            + "jobs get none: \(answer.device(lacking.ranks).problem ?? "no device")",
          help: "name nodes that have GPUs (--slurm partition=…), and see 'flow doctor' on one of them"
            + "; docs/slurm.md says what of the environment jobs get")
      ])
    }
    return engine
  }
}

extension ClusterDevices.Answer {
  /// What keys name of it for a stage with that `device`: `auto` asks a cluster for none.
  func name(_ device: String, _ ranks: Int) -> String? {
    device == "cuda" ? self.device(ranks).name : nil
  }
}

struct Exec: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "A worker: takes actions from standard input, or those of a cluster's task.",
    shouldDisplay: false)
  @Option var cache: String
  @Option(help: "The batch of which this is a task.") var batch: String?
  @Option(help: "Which task; default: SLURM_ARRAY_TASK_ID.") var task: Int?
  @Option(help: "This is one of so many ranks, started by mpirun.") var ranks: Int?
  @Flag(help: "Only tries what the ranks say to each other.") var checkRanks = false
  @Option(help: "Only says what CUDA device there is here, to who asked in this batch.") var devices: String?

  /// This program.
  static let program =
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]

  /// How a worker over `store` is started.
  static func worker(_ store: Store) -> [String] { [program, "exec", "--cache", store.root] }

  /// The CUDA devices that so many ranks have here.
  private static func device(_ ranks: Int) -> ClusterDevices.Device {
    ClusterDevices.Device(name: Devices.accelerator(ranks: ranks), problem: Devices.problem(ranks: ranks))
  }

  func run() throws {
    if let ranks, checkRanks { return try RankCheck.serve(OpenMPI(of: ranks)) }
    Disk.becomeWorker()
    let store = try Store(root: cache)
    if let ranks {
      let mpi = try OpenMPI(of: ranks)
      try RankCheck.agree(mpi, processor: Project.processor)
      return Worker.serve(store: store, stages: AllStages.list, ranks: mpi)
    }
    if let devices {
      return try ClusterDevices.give(ClusterDevices.Answer(Exec.device), store, batch: devices)
    }
    guard let batch else { return Worker.serve(store: store, stages: AllStages.list) }
    guard let task = task ?? ProcessInfo.processInfo.environment["SLURM_ARRAY_TASK_ID"].flatMap({ Int($0) })
    else { throw ValidationError("--batch needs --task, or SLURM_ARRAY_TASK_ID in the environment") }
    let work = BatchTask(
      store: store, batch: batch, index: task, worker: Exec.worker(store), device: Exec.device)
    signal(SIGTERM, SIG_IGN)
    signal(SIGINT, SIG_IGN)
    let sources = [SIGTERM, SIGINT].map { number in
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { work.stop() }
      source.resume()
      return source
    }
    let status = withExtendedLifetime(sources) { work.run() }
    throw ExitCode(status)
  }
}
