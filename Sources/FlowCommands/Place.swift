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

  /// Whether it is another machine than this one.
  var isElsewhere: Bool { on != .local }

  /// The project's engine there.
  /// - Throws: `Diagnostics`.
  func engine(_ project: Project, jobs: Int?, gpus: String?, observe: @escaping @Sendable (RunEvent) -> Void)
    throws
    -> Engine
  {
    guard on == .slurm else {
      if let stray = slurm.first ?? slurmArgs.first {
        throw Diagnostics([
          Diagnostic(code: "E017", "'\(stray)' is for Slurm, but the run is not", help: "add '--on slurm'")
        ])
      }
      return project.engine(jobs: jobs, gpus: gpus, observe: observe)
    }
    let file = project.root == "." ? ProjectFile.name : project.root + "/" + ProjectFile.name
    let standing =
      access(file, F_OK) == 0 ? try ProjectFile(file: file, text: FileText.read(file)).slurm : []
    let settings = try SlurmSettings(standing + slurm + slurmArgs.map { "args=\($0)" })
    // A job starts in the submitter's folder, but its cache must not depend on that.
    let store = try Store(root: URL(fileURLWithPath: project.store.root).standardizedFileURL.path)
    let executor = try SlurmExecutor(store: store, program: Exec.program, settings: settings)
    var engine = Engine(
      store: store, executor: executor, capacity: .cluster(threads: jobs ?? executor.processors),
      observe: observe)
    engine.processor = Project.processor
    return engine
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

  /// This program.
  static let program =
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]

  /// How a worker over `store` is started.
  static func worker(_ store: Store) -> [String] { [program, "exec", "--cache", store.root] }

  func run() throws {
    if let ranks, checkRanks { return try RankCheck.serve(OpenMPI(of: ranks)) }
    Disk.becomeWorker()
    let store = try Store(root: cache)
    if let ranks {
      let mpi = try OpenMPI(of: ranks)
      try RankCheck.agree(mpi, processor: Project.processor)
      return Worker.serve(store: store, stages: AllStages.list, ranks: mpi)
    }
    guard let batch else { return Worker.serve(store: store, stages: AllStages.list) }
    guard let task = task ?? ProcessInfo.processInfo.environment["SLURM_ARRAY_TASK_ID"].flatMap({ Int($0) })
    else { throw ValidationError("--batch needs --task, or SLURM_ARRAY_TASK_ID in the environment") }
    let work = BatchTask(store: store, batch: batch, index: task, worker: Exec.worker(store))
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
