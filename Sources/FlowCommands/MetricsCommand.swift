import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import Foundation

struct MetricsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metrics",
    abstract: "Shows what the stages measured, of several pipelines or revisions side by side.",
    discussion: "One pipeline: as the cache has it now. Several, or with --rev: as their lock files say.")
  @Argument(help: "Pipelines; left out, the one in pipelines/.", completion: .file(extensions: ["yaml"]))
  var pipelines: [String] = []
  @Option(name: .long, help: "A revision of git, such as HEAD~1. May be repeated.") var rev: [String] = []
  @OptionGroup var shared: SharedOptions

  func run() async throws {
    try await reporting(json: shared.json, noColor: shared.noColor) {
      let files = try pipelines.isEmpty ? [shared.file ?? Project.onlyPipeline()] : pipelines
      if files.count == 1, rev.isEmpty { return try current(files[0]) }
      var columns: [(name: String, lock: LockDocument)] = []
      for file in files {
        let lock = Project.lockFile(file)
        for revision in rev {
          let name = files.count == 1 ? revision : "\(file)@\(revision)"
          columns.append((name, LockDocument(try Git.show(revision, lock))))
        }
        if rev.isEmpty { columns.append((file, LockDocument(try FileText.read(lock)))) }
      }
      show(columns)
    }
  }

  /// The table of several lock files: a line per metric, a column per file.
  private func show(_ columns: [(name: String, lock: LockDocument)]) {
    let stages = Set(columns.flatMap { $0.lock.stages.keys }).sorted()
    if shared.json {
      let members = columns.map { column in
        (
          column.name,
          JSON.object(
            column.lock.stages.compactMapValues { stage in
              stage.sections["metrics"].map {
                .object($0.compactMapValues { Double($0).map { .double($0) } })
              }
            })
        )
      }
      return Terminal.out(
        JSON.object([
          "schema": "flow.metrics/1", "columns": .object(Dictionary(members, uniquingKeysWith: { $1 })),
        ]).pretty)
    }
    var rows = [["stage", "metric"] + columns.map(\.name)]
    for stage in stages {
      let metrics = columns.map { $0.lock.stages[stage]?.sections["metrics"] ?? [:] }
      for name in Set(metrics.flatMap(\.keys)).sorted() {
        rows.append([stage, name] + metrics.map { $0[name] ?? "-" })
      }
    }
    let widths = rows[0].indices.map { i in rows.map { $0[i].count }.max() ?? 0 }
    for row in rows {
      let line = zip(row, widths).map { Terminal.padded($0, $1) }.joined(separator: "  ")
      Terminal.out(line.replacing(#/ +$/#, with: ""))
    }
  }

  private func current(_ file: String) throws {
    let project = try Project(shared, pipeline: file)
    let report = try project.engine(jobs: nil).assess(project.plan)
    let measured = report.stages.filter { !$0.metrics.isEmpty }
    if shared.json {
      let members = measured.map { ($0.name, JSON.object($0.metrics.mapValues { .double($0) })) }
      return Terminal.out(
        JSON.object([
          "schema": "flow.metrics/1", "stages": .object(Dictionary(uniqueKeysWithValues: members)),
        ]).pretty)
    }
    let width = measured.flatMap { $0.metrics.keys.map(\.count) }.max() ?? 0
    for stage in measured {
      Terminal.out(stage.name)
      for (name, value) in stage.metrics.sorted(by: { $0.key < $1.key }) {
        Terminal.out("  \(Terminal.padded(name, width))  \(String(format: "%.6g", value))")
      }
    }
    let open = report.stages.filter { $0.state != .cached }.map(\.name)
    if !open.isEmpty { Terminal.error("not up to date: \(open.joined(separator: ", "))") }
  }
}
