import ArgumentParser
import COpenBLAS
import FlowCore
import FlowEngine
import FlowPlan
import FlowStages
import FlowStore
import Foundation

/// Options that every command on a pipeline takes.
struct SharedOptions: ParsableArguments {
  @Option(
    name: [.customLong("pipeline"), .customShort("p")],
    help: "The pipeline's file; left out, the one in pipelines/.", completion: .file(extensions: ["yaml"]))
  var file: String?

  @Option(name: .long, help: "Overrides a value, such as stages.f0.with.fmax=900. May be repeated.")
  var set: [String] = []

  @Option(
    name: .long, help: "How many there are of a token, such as disk=2, or memory=8GiB. May be repeated.")
  var limit: [String] = []

  @Flag(name: .long, help: "Prints one JSON document on standard output.")
  var json = false

  @Flag(name: .long, help: "No colours.")
  var noColor = false

  /// All assignments.
  var overrides: [String] { self.set + limit.map { "limits.\($0)" } }
}

/// Those, and the pipeline as first word. A command declares the two side by side: ArgumentParser looks at each group of
/// options within a group again and again, which showed in every start.
struct PipelineOptions {
  /// What is said of the word.
  static let help = ArgumentHelp(
    "The pipeline's file (or --pipeline); left out, the one in pipelines/.", valueName: "pipeline")
  var word: String?
  var shared: SharedOptions

  var pipeline: String? { word ?? shared.file }
  var json: Bool { shared.json }
  var noColor: Bool { shared.noColor }
  var overrides: [String] { shared.overrides }
}

/// A project: the folder with stages/, and what is loaded of it.
struct Project {
  let root: String
  let catalog: StageCatalog
  let plan: Plan
  let store: Store
  /// The files that the plan was read from: the pipeline, and those that it extends.
  let files: [String]

  /// Loads the pipeline that `options` name.
  /// - Throws: `Diagnostics`; `StoreError`.
  init(_ options: PipelineOptions) throws { try self.init(options.shared, pipeline: options.word) }

  /// Loads `pipeline`, or what `options` name.
  /// - Throws: `Diagnostics`; `StoreError`.
  init(_ options: SharedOptions, pipeline: String?) throws {
    let file = try pipeline ?? options.file ?? Project.onlyPipeline()
    root = Project.root(from: file)
    let memory = Project.cacheFolder(root) + "/parsed"
    let parsed = ParsedTexts(FileBytes.read(memory).flatMap { Store.checked($0, at: memory) })
    catalog = try Project.catalog(root, parsed)
    var files = [file]
    plan = try Resolver.plan(
      file: file, text: try FileText.document(file), catalog: catalog, overrides: options.overrides,
      parsed: parsed
    ) { path in
      files.append(path)
      return try FileText.document(path)
    }
    self.files = files
    store = try Project.store(root)
    // Losing it costs reading the texts again, nothing else.
    if let bytes = parsed.bytes { try? store.publishChecked(bytes, at: memory) }
  }

  /// The built-in stages, and those in the project's stages/, which go before them.
  /// - Throws: `Diagnostics` with every mistake.
  static func catalog(_ root: String, _ parsed: ParsedTexts? = nil) throws -> StageCatalog {
    let own = root == "." ? "stages" : root + "/stages"
    var files: [String: String] = [:]
    for folder in [Installation.folder("stages"), own].compactMap({ $0 }) {
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
      where name.hasSuffix(".yaml") {
        files[name] = folder + "/" + name
      }
    }
    if files.isEmpty { return try StageCatalog(loading: own) }
    return try StageCatalog(
      parsing: try files.sorted { $0.key < $1.key }.map { ($0.value, try FileText.document($0.value)) },
      parsed: parsed)
  }

  /// The lock file of a pipeline.
  static func lockFile(_ pipeline: String) -> String {
    (pipeline.hasSuffix(".yaml") ? String(pipeline.dropLast(5)) : pipeline) + ".lock.yaml"
  }

  /// The store of the project at `root`.
  static func store(_ root: String) throws -> Store {
    try Store(root: cacheFolder(root))
  }

  private static func cacheFolder(_ root: String) -> String {
    ProcessInfo.processInfo.environment["FLOW_CACHE"] ?? (root == "." ? "cache" : root + "/cache")
  }

  /// The nearest folder with stages/ or flow.yaml, from the pipeline's folder upwards, else the working directory.
  static func root(from file: String?) -> String {
    var folder = (file.map { Path.parent($0) } ?? "")
    for _ in 0..<16 {
      let here = folder.isEmpty ? "." : folder
      if ["stages", ProjectFile.name].contains(where: {
        FileManager.default.fileExists(atPath: "\(here)/\($0)")
      }) {
        return here
      }
      if here == "." || here == "/" { break }
      folder = Path.parent(folder)
    }
    return "."
  }

  static func onlyPipeline() throws -> String {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: "pipelines")) ?? [])
      .filter { $0.hasSuffix(".yaml") && !$0.hasSuffix(".lock.yaml") }.sorted()
    if names.count == 1 { return "pipelines/" + names[0] }
    throw Diagnostics([
      Diagnostic(
        code: "E005", names.isEmpty ? "there is no pipeline in pipelines/" : "which pipeline?",
        notes: names.map { "pipelines/\($0)" },
        help: names.isEmpty
          ? "flow init DIR makes a project" : "give its path: flow run pipelines/\(names[0])")
    ])
  }

  /// An engine whose workers are this executable.
  func engine(jobs: Int?, gpus: String? = nil, observe: @escaping @Sendable (RunEvent) -> Void = { _ in })
    -> Engine
  {
    let pool = WorkerPool(store: store, command: Exec.worker(store))
    var capacity = Capacity.machine(jobs: jobs, gpus: gpus?.split(separator: ",").map(String.init))
    let hidden = gpus != nil || ProcessInfo.processInfo.environment["CUDA_VISIBLE_DEVICES"] != nil
    if capacity.gpus.isEmpty, !hidden, plan.stages.contains(where: { $0.device ?? "cpu" != "cpu" }) {
      // The driver knows of more than lies in /dev.
      capacity.gpus = (0..<Devices.count).map(String.init)
    }
    var engine = Engine(store: store, executor: pool, capacity: capacity, observe: observe)
    engine.processor = Project.processor
    // `--gpus` may give none of those that there are.
    let isBare = capacity.gpus.isEmpty
    engine.accelerator = { [store] device, ranks in
      if let own = isBare ? nil : Devices.accelerator(ranks: ranks) { return own }
      // Where there is none, 'device: cuda' can only be for the cluster that had the latest run.
      return ClusterDevices.latest(in: store)?.name(device, ranks)
    }
    return engine
  }

  /// Throws when a stage asks for a CUDA device that this machine lacks.
  /// - Parameter only: the stages that are looked at.
  func requireDevices(_ only: Set<String>?) throws {
    let asking = plan.stages.filter { $0.device == "cuda" && only?.contains($0.name) ?? true }
    guard let first = asking.first(where: { Devices.accelerator(ranks: $0.ranks) == nil }) else { return }
    throw Diagnostics([
      Diagnostic(
        code: "E035",
        "stage '\(first.name)' asks for 'device: cuda'\(first.ranks > 1 ? " on \(first.ranks) ranks" : ""), and there is none: \(Devices.problem(ranks: first.ranks) ?? "no device")",
        help:
          "'flow doctor' says what was looked for; 'device: auto' takes the CPU where there is no CUDA device"
      )
    ])
  }

  /// The class of processor by which the kernels of matrix products are chosen: the user's choice, else what this one can.
  /// OpenBLAS isn't opened for it.
  static var processor: String {
    ProcessInfo.processInfo.environment["OPENBLAS_CORETYPE"]?.lowercased()
      ?? String(cString: flow_cpu_class())
  }
}

/// Runs `body` and turns its errors into text and an exit code.
func reporting(json: Bool = false, noColor: Bool = false, _ body: () async throws -> Void) async throws {
  let terminal = Terminal(noColour: noColor)
  do {
    try await body()
  } catch let error as Diagnostics {
    if json {
      Terminal.out((try? JSON(encoding: ["errors": error.all]).pretty) ?? "{}")
    } else {
      Terminal.error(error.all.map(terminal.render).joined(separator: "\n\n"))
      if error.all.count > 1 { Terminal.error("\n\(error.all.count) mistakes; nothing was run") }
    }
    throw ExitCode(2)
  } catch let error as StoreError {
    Terminal.error(
      terminal.render(Diagnostic(code: "E040", "\(error)", help: "mend that and run the same command again")))
    throw ExitCode(1)
  } catch let error as RemoteError {
    Terminal.error(terminal.render(error.diagnostic))
    throw ExitCode(1)
  }
}
