import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStages
import FlowStore
import Foundation

/// Options that every command on a pipeline takes.
struct PipelineOptions: ParsableArguments {
  @Argument(help: "The pipeline's file; left out, the one in pipelines/.")
  var pipeline: String?

  @Option(name: .long, help: "Overrides a value, such as stages.f0.with.fmax=900. May be repeated.")
  var set: [String] = []

  @Option(
    name: .long, help: "How many there are of a token, such as disk=2, or memory=8GiB. May be repeated.")
  var limit: [String] = []

  @Flag(name: .long, help: "Prints one JSON document on standard output.")
  var json = false

  @Flag(name: .long, help: "No colours.")
  var noColor = false
}

/// A project: the folder with stages/, and what is loaded of it.
struct Project {
  let root: String
  let catalog: StageCatalog
  let plan: Plan
  let store: Store

  /// Loads the pipeline that `options` name.
  /// - Throws: `Diagnostics`; `StoreError`.
  init(_ options: PipelineOptions) throws {
    let file = try options.pipeline ?? Project.onlyPipeline()
    root = Project.root(from: file)
    catalog = try StageCatalog(loading: root == "." ? "stages" : root + "/stages")
    plan = try Resolver.load(
      file, catalog: catalog, overrides: options.set + options.limit.map { "limits.\($0)" })
    store = try Project.store(root)
  }

  /// The store of the project at `root`.
  static func store(_ root: String) throws -> Store {
    try Store(
      root: ProcessInfo.processInfo.environment["FLOW_CACHE"] ?? (root == "." ? "cache" : root + "/cache"))
  }

  /// The nearest folder with stages/, from the pipeline's folder upwards, else the working directory.
  static func root(from file: String?) -> String {
    var folder = (file.map { ($0 as NSString).deletingLastPathComponent } ?? "")
    for _ in 0..<16 {
      let here = folder.isEmpty ? "." : folder
      if FileManager.default.fileExists(atPath: here + "/stages") { return here }
      if here == "." || here == "/" { break }
      folder = (folder as NSString).deletingLastPathComponent
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
        notes: names.map { "pipelines/\($0)" }, help: "give its path: flow run pipelines/vocal.yaml")
    ])
  }

  /// An engine whose workers are this executable.
  func engine(jobs: Int?, gpus: String? = nil, observe: @escaping @Sendable (RunEvent) -> Void = { _ in })
    -> Engine
  {
    let pool = WorkerPool(store: store, command: Exec.worker(store))
    return Engine(
      store: store, executor: pool,
      capacity: .machine(jobs: jobs, gpus: gpus?.split(separator: ",").map(String.init)), observe: observe)
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
    if error == .interrupted { throw ExitCode(130) }
    Terminal.error(terminal.render(error.diagnostic))
    throw ExitCode(1)
  }
}
