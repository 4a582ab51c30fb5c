import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStages
import FlowStore
import Foundation

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs what changed, and takes the rest from the cache.")
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }
  @Option(name: .shortAndLong, help: "Threads in all; default: the processors.")
  var jobs: Int?
  @Option(
    name: .long, help: "The ids of the GPUs, such as 0,1; default: CUDA_VISIBLE_DEVICES, or all there are.")
  var gpus: String?
  @Flag(name: .long, help: "No progress.")
  var quiet = false
  @Flag(name: .long, help: "Says what would be done, and does nothing (as 'flow plan').")
  var dryRun = false
  @Flag(name: .long, help: "Runs nothing; fails when something would run or the lock file would differ.")
  var frozen = false
  @Option(name: .long, help: "Only this stage and what it takes from. May be repeated.")
  var to: [String] = []
  @Option(name: .long, help: "Only this stage, what takes from it, and what those need. May be repeated.")
  var from: [String] = []
  @OptionGroup var place: PlaceOptions

  @Option(
    name: .long,
    help: "Writes what happens to this file as it happens, a JSON object a line; - is standard error.",
    completion: .file())
  var events: String?
  @Flag(name: .long, help: "After a failure, goes on with the stages that don't need what failed.")
  var keepGoing = false
  @Flag(name: .long, help: "Runs again whenever the pipeline, a stage's declaration or a source changes.")
  var watch = false

  func validate() throws {
    if watch, dryRun || frozen {
      throw ValidationError("--watch runs; it goes with neither --dry-run nor --frozen")
    }
    if let jobs, jobs < 1 { throw ValidationError("-j takes a number of threads, 1 at least") }
  }

  func run() async throws {
    if watch { return try await watching() }
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      if dryRun {
        return try PlanCommand.show(project, by: place.inspector(project), json: options.json)
      }
      if frozen { return try check(project) }
      try await once(project)
    }
  }

  /// One run and its report.
  /// - Throws: `ExitCode` when it failed or was interrupted.
  private func once(_ project: Project) async throws {
    let only = try project.plan.part(from: from, to: to)
    let progress = Progress(Terminal(noColour: options.noColor), quiet: quiet)
    let log = try events.map(EventLog.init)
    log?.started(project.plan.name, stages: project.plan.stages.map(\.name))
    var engine = try await place.engine(project, only: only, jobs: jobs, gpus: gpus) { event in
      progress.handle(event)
      log?.handle(event)
    }
    engine.keepGoing = keepGoing
    let interrupts = Interrupts("stopping at the next checkpoint (again: at once)") { [engine] in
      engine.cancel()
    }
    let report = try await engine.run(project.plan, projectRoot: project.root, only: only)
    progress.end()
    log?.finished(report)
    if options.json {
      Terminal.out(report.document(schema: "flow.run/1", plan: project.plan).pretty)
    } else {
      summarise(report, project)
    }
    if let code = interrupts.exitCode { throw ExitCode(code) }
    if report.failed { throw ExitCode(1) }
    if report.denied { throw ExitCode(3) }
  }

  /// Runs, waits for a change, runs again; ends by a signal only.
  private func watching() async throws {
    var folders: [String] = []
    while true {
      let file = try options.pipeline ?? Project.onlyPipeline()
      let root = Project.root(from: file)
      let prefix = root == "." ? "" : root + "/"
      // Taken before the run: what is edited during it counts.
      var watch = Watch(files: [file], folders: [prefix + "stages"] + folders)
      var before = watch.state()
      do {
        try await reporting(json: options.json, noColor: options.noColor) {
          let project = try Project(options)
          folders = project.plan.sources.map(\.path)
          watch = Watch(files: [file] + project.files, folders: [prefix + "stages"] + folders)
          before = watch.state()
          try await once(project)
        }
      } catch let code as ExitCode where code.rawValue < 128 {}
      let waiting = Interrupts("") { _exit(130) }
      Terminal.error("watching \(before.count) files; Ctrl-C ends it")
      let changed = try await watch.change(from: before)
      withExtendedLifetime(waiting) {}
      let more = changed.count > 1 ? " and \(changed.count - 1) more" : ""
      Terminal.error("changed: \(changed[0])\(more)")
    }
  }

  /// `--frozen`: everything is up to date and the lock file says so.
  private func check(_ project: Project) throws {
    let engine = try place.inspector(project)
    let report = try engine.assess(project.plan)
    let open = report.stages.filter { $0.state != .cached }
    for stage in open {
      Terminal.error(
        "\(stage.name): \(stage.failure ?? stage.reasons.map(\.description).joined(separator: ", "))")
    }
    if open.isEmpty, try !engine.lockIsCurrent(project.plan, report) {
      Terminal.error("the lock file would change: run without --frozen and commit it")
    } else if open.isEmpty {
      return Terminal.out("frozen: \(report.stages.count) stages are as the lock file says")
    }
    throw ExitCode(!open.isEmpty && open.allSatisfy { $0.state == .denied } ? 3 : 1)
  }

  private func summarise(_ report: RunReport, _ project: Project) {
    let done = report.stages.filter { $0.state == .done }.count
    let cached = report.stages.filter { $0.state == .cached && $0.items.total > 0 }.count
    let idle = report.stages.filter { $0.state == .cached && $0.items.total == 0 }.count
    let failed = report.stages.filter { $0.state == .failed }
    let memory = report.stages.map(\.peakMemory).max() ?? 0
    var head =
      failed.isEmpty
      ? (report.denied ? "done but for what licences deny" : "done")
      : (report.interrupted ? "interrupted" : "failed")
    head += String(format: " in %.2f s", report.seconds) + "   \(done) stages run, \(cached) cached"
    if idle > 0 { head += ", \(idle) without items" }
    let causes = failed.filter { !$0.isConsequence }
    if !causes.isEmpty { head += ", \(causes.count) failed" }
    if failed.count > causes.count { head += ", \(failed.count - causes.count) not begun" }
    if memory > 0 { head += "   peak memory of a worker \(memory / 1_048_576) MB" }
    Terminal.out(head)
    for stage in failed {
      Terminal.out(
        "  \(stage.isConsequence ? "not begun" : "failed   ") \(stage.name): \(stage.failure ?? "")")
    }
    for stage in report.stages where stage.state == .denied {
      if let denial = stage.denial {
        Terminal.error(Terminal(noColour: options.noColor).render(denial))
      } else {
        Terminal.error("not made: \(stage.name): \(stage.failure ?? "")")
      }
    }
    let width = max(9, report.results.map(\.name.count).max() ?? 0)
    for result in report.results where result.count > 0 {
      let what = result.count == 1 ? result.example : "\(result.count) files, such as \(result.example)"
      Terminal.out("  \(Terminal.padded(result.name, width)) \(result.folder)/  (\(what))")
    }
    if let lock = report.lockFile {
      let name = Terminal.padded("lock file", width)
      Terminal.out("  \(name) \(lock)  (what was made from what; keep it in git)")
    }
    if report.interrupted {
      Terminal.out("next: run the same command again to go on from the last checkpoint")
    } else if let stage = causes.first ?? failed.first {
      Terminal.out("next: flow log \(stage.name) shows what it said")
    } else if done > 0 {
      Terminal.out(
        "next: change a value under 'with:' in \(project.plan.file), and 'flow plan' says what it costs")
    }
  }
}

struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Says what a run would do, and why.")
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      try PlanCommand.show(project, by: project.engine(jobs: nil), json: options.json)
    }
  }

  static func show(_ project: Project, by engine: Engine, json: Bool) throws {
    let report = try engine.assess(project.plan)
    if json { return Terminal.out(report.document(schema: "flow.plan/1", plan: project.plan).pretty) }
    for stage in report.stages {
      let name = Terminal.padded(stage.name, 16)
      let state = Terminal.padded(stage.state.rawValue, 8)
      var line = "\(state) \(name) \(stage.items.total) \(stage.items.total == 1 ? "item" : "items")"
      if stage.state == .run { line += ", \(stage.items.run) to run" }
      let planned = project.plan.stages.first { $0.name == stage.name }
      let ranks = planned?.ranks ?? 1
      if stage.state != .cached, ranks > 1 { line += " on \(ranks) ranks" }
      if stage.items.quarantined > 0 { line += ", \(stage.items.quarantined) set aside" }
      if stage.state != .cached, let seconds = stage.expectedSeconds, seconds >= 0.1 {
        line += String(
          format: "   about %.1f s of work, %d MB each", seconds, stage.expectedMemory / 1_048_576)
      }
      Terminal.out(line)
      for reason in stage.reasons { Terminal.out("           because \(reason)") }
      if stage.state != .cached, let device = planned?.device, device != "cpu" {
        let found = engine.accelerator(device, ranks)
        if let found { Terminal.out("           on \(found)") }
        if device == "cuda", found == nil {
          Terminal.out(
            "           on a CUDA device that isn't known: there is none here, and 'flow run --on slurm' asks what jobs get"
          )
        }
      }
      if stage.state == .denied { Terminal.out("           because \(stage.failure ?? "")") }
    }
    if let forecast = report.forecast {
      Terminal.out(
        String(
          format: "in all   about %.1f s, %d MB of memory at once", forecast.seconds,
          forecast.memory / 1_048_576))
    }
  }
}

struct Status: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Says in one line per stage whether it is up to date.")
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      let report = try project.engine(jobs: nil).assess(project.plan)
      if options.json {
        return Terminal.out(report.document(schema: "flow.plan/1", plan: project.plan).pretty)
      }
      let open = report.stages.filter { $0.state != .cached }
      for stage in open { Terminal.out("\(stage.state.rawValue)  \(stage.name)") }
      Terminal.out(
        open.isEmpty
          ? "up to date: \(report.stages.count) stages cached"
          : "\(open.count) of \(report.stages.count) stages are not up to date")
    }
  }
}
