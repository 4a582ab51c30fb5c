import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import Foundation

struct GraphCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graph", abstract: "Draws the stages and what flows between them.")
  enum Format: String, ExpressibleByArgument, CaseIterable { case mermaid, dot, svg }
  @OptionGroup var options: PipelineOptions
  @Option(help: "mermaid, dot or svg.") var format = Format.mermaid

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let plan = try Project(options).plan
      switch format {
      case .mermaid: Terminal.out(GraphDrawing.mermaid(plan))
      case .dot: Terminal.out(GraphDrawing.dot(plan))
      case .svg: Terminal.out(GraphDrawing.svg(plan))
      }
    }
  }
}

/// A plan as a picture.
enum GraphDrawing {
  /// Edges from what gives to what takes, with what is given.
  private static func edges(_ plan: Plan) -> [(from: String, to: String, label: String)] {
    plan.stages.flatMap { stage in
      stage.bindings.sorted { $0.key < $1.key }.flatMap { _, references in
        references.map { reference in
          switch reference {
          case .source(let name): (name, stage.name, "")
          case .output(let from, let port), .cell(let from, let port, _): (from, stage.name, port)
          }
        }
      }
    }
  }

  static func mermaid(_ plan: Plan) -> String {
    var ids: [String: String] = [:]
    for (i, name) in (plan.sources.map(\.name) + plan.stages.map(\.name)).enumerated() { ids[name] = "n\(i)" }
    var lines = ["flowchart LR"]
    for source in plan.sources { lines.append("  \(ids[source.name] ?? "")[(\"\(source.name)\")]") }
    for stage in plan.stages { lines.append("  \(ids[stage.name] ?? "")[\"\(stage.name)\"]") }
    for edge in edges(plan) {
      let arrow = edge.label.isEmpty ? "-->" : "-->|\(edge.label)|"
      lines.append("  \(ids[edge.from] ?? "") \(arrow) \(ids[edge.to] ?? "")")
    }
    return lines.joined(separator: "\n")
  }

  static func dot(_ plan: Plan) -> String {
    func quoted(_ text: String) -> String { "\"\(text.replacingOccurrences(of: "\"", with: "\\\""))\"" }
    var lines = [
      "digraph \(quoted(plan.name)) {", "  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];",
    ]
    for source in plan.sources { lines.append("  \(quoted(source.name)) [shape=cylinder];") }
    for edge in edges(plan) {
      lines.append("  \(quoted(edge.from)) -> \(quoted(edge.to)) [label=\(quoted(edge.label))];")
    }
    return (lines + ["}"]).joined(separator: "\n")
  }

  /// Columns by depth; within a column in the order of the text.
  static func svg(_ plan: Plan) -> String {
    func escaped(_ text: String) -> String {
      text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
    }
    var depth: [String: Int] = [:]
    for source in plan.sources { depth[source.name] = 0 }
    for stage in plan.stages {
      depth[stage.name] = 1 + (stage.upstream.compactMap { depth[$0] }.max() ?? 0)
    }
    let names = plan.sources.map(\.name) + plan.stages.map(\.name)
    let (width, height, gapX, gapY) = (150, 30, 70, 16)
    var (rows, places) = ([Int: Int](), [String: (x: Int, y: Int)]())
    for name in names {
      let column = depth[name] ?? 0
      places[name] = (20 + column * (width + gapX), 20 + rows[column, default: 0] * (height + gapY))
      rows[column, default: 0] += 1
    }
    let (right, bottom) = (
      20 + ((depth.values.max() ?? 0) + 1) * (width + gapX), 20 + (rows.values.max() ?? 1) * (height + gapY)
    )
    var parts = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(right)\" height=\"\(bottom)\" font-family=\"sans-serif\" font-size=\"12\">"
    ]
    for edge in edges(plan) {
      guard let a = places[edge.from], let b = places[edge.to] else { continue }
      let (x1, y1, x2, y2) = (a.x + width, a.y + height / 2, b.x, b.y + height / 2)
      parts.append(
        "<path d=\"M\(x1),\(y1) C\(x1 + 40),\(y1) \(x2 - 40),\(y2) \(x2),\(y2)\" fill=\"none\" stroke=\"#8a8a8a\"/>"
      )
    }
    for name in names {
      guard let place = places[name] else { continue }
      let fill = plan.stage(name) == nil ? "#e8f1e4" : "#e6ecf5"
      parts.append(
        "<rect x=\"\(place.x)\" y=\"\(place.y)\" width=\"\(width)\" height=\"\(height)\" rx=\"5\" fill=\"\(fill)\" stroke=\"#5a5a5a\"/>"
          + "<text x=\"\(place.x + width / 2)\" y=\"\(place.y + 19)\" text-anchor=\"middle\">\(escaped(name))</text>"
      )
    }
    return (parts + ["</svg>"]).joined(separator: "\n")
  }
}

struct MetricsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metrics", abstract: "Shows what the stages measured.")
  @OptionGroup var options: PipelineOptions

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      let report = try project.engine(jobs: nil).assess(project.plan)
      let measured = report.stages.filter { !$0.metrics.isEmpty }
      if options.json {
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
}

struct SchemaCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schema", abstract: "Prints the JSON schema (draft 7) of pipelines, for editors.")
  @Flag(help: "That of the declarations in stages/ instead.") var stage = false
  @Flag(
    help:
      "Writes both, to schemas/pipeline.json and schemas/stage.json, where the pipelines' first lines look.")
  var write = false

  func run() async throws {
    try await reporting {
      let root = Project.root(from: nil)
      let catalog = try StageCatalog(loading: root + "/stages")
      let (pipelines, stages) = (PipelineSchema.document(catalog), StageSchema.document(catalog))
      guard write else { return Terminal.out((stage ? stages : pipelines).pretty) }
      try FileManager.default.createDirectory(atPath: root + "/schemas", withIntermediateDirectories: true)
      for (name, document) in [("pipeline", pipelines), ("stage", stages)] {
        let path = "\(root)/schemas/\(name).json"
        try Data((document.pretty + "\n").utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        Terminal.out(path)
      }
    }
  }
}

struct DiffCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Says what differs between two commits, from their lock files.",
    discussion: "Without a second revision the lock file as it lies here is compared.")
  @Argument(help: "A revision of git, such as HEAD~1.") var old: String
  @Argument(help: "Another.") var new: String?
  @Option(help: "The pipeline's file.") var pipeline: String?

  func run() async throws {
    try await reporting {
      let file = try pipeline ?? Project.onlyPipeline()
      let lock = (file.hasSuffix(".yaml") ? String(file.dropLast(5)) : file) + ".lock.yaml"
      let before = LockDocument(try DiffCommand.show(old, lock))
      let after = LockDocument(try new.map { try DiffCommand.show($0, lock) } ?? FileText.read(lock))
      let lines = after.differences(from: before)
      Terminal.out(lines.isEmpty ? "nothing differs" : lines.joined(separator: "\n"))
    }
  }

  private static func show(_ revision: String, _ path: String) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    // The revision is one argument and can't be an option.
    process.arguments = ["git", "show", "--end-of-options", "\(revision):./\(path)"]
    let (out, error) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = error
    try process.run()
    let data = out.fileHandleForReading.readDataToEndOfFile()
    let message = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Diagnostics([
        Diagnostic(
          code: "E034", "git has no '\(path)' at '\(revision)'",
          notes: [message.trimmingCharacters(in: .whitespacesAndNewlines)],
          help: "commit the lock file beside the pipeline; 'git log -- \(path)' lists its revisions")
      ])
    }
    return String(decoding: data, as: UTF8.self)
  }
}
