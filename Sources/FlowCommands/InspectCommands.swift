import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import Foundation

struct GraphCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graph", abstract: "Draws the stages and what flows between them.")
  enum Format: String, ExpressibleByArgument, CaseIterable { case mermaid, dot, svg }
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }
  @Option(help: "mermaid, dot or svg.") var format = Format.mermaid
  @Flag(name: .long, help: "Colours the stages: cached, to be run, may be run.") var state = false

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      var fills: [String: String] = [:]
      if state {
        for stage in try project.engine(jobs: nil).assess(project.plan).stages {
          fills[stage.name] = GraphDrawing.fill(stage.state)
        }
      }
      switch format {
      case .mermaid: Terminal.out(GraphDrawing.mermaid(project.plan, fills))
      case .dot: Terminal.out(GraphDrawing.dot(project.plan, fills))
      case .svg: Terminal.out(GraphDrawing.svg(project.plan, fills))
      }
    }
  }
}

/// A plan as a picture.
enum GraphDrawing {
  /// The colour of a stage's box.
  static func fill(_ state: StageState) -> String {
    switch state {
    case .cached, .done: "#d5ebd0"
    case .run: "#fbe3b5"
    case .mayRun: "#fdf4dc"
    case .failed, .denied: "#f6c9c4"
    }
  }

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

  static func mermaid(_ plan: Plan, _ fills: [String: String] = [:]) -> String {
    var ids: [String: String] = [:]
    for (i, name) in (plan.sources.map(\.name) + plan.stages.map(\.name)).enumerated() { ids[name] = "n\(i)" }
    var lines = ["flowchart LR"]
    for source in plan.sources { lines.append("  \(ids[source.name] ?? "")[(\"\(source.name)\")]") }
    for stage in plan.stages { lines.append("  \(ids[stage.name] ?? "")[\"\(stage.name)\"]") }
    for edge in edges(plan) {
      let arrow = edge.label.isEmpty ? "-->" : "-->|\(edge.label)|"
      lines.append("  \(ids[edge.from] ?? "") \(arrow) \(ids[edge.to] ?? "")")
    }
    for stage in plan.stages {
      if let fill = fills[stage.name] { lines.append("  style \(ids[stage.name] ?? "") fill:\(fill)") }
    }
    return lines.joined(separator: "\n")
  }

  static func dot(_ plan: Plan, _ fills: [String: String] = [:]) -> String {
    func quoted(_ text: String) -> String { "\"\(text.replacingOccurrences(of: "\"", with: "\\\""))\"" }
    var lines = [
      "digraph \(quoted(plan.name)) {", "  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];",
    ]
    for source in plan.sources { lines.append("  \(quoted(source.name)) [shape=cylinder];") }
    for stage in plan.stages {
      let fill = fills[stage.name].map { " [style=filled, fillcolor=\(quoted($0))]" } ?? ""
      lines.append("  \(quoted(stage.name))\(fill);")
    }
    for edge in edges(plan) {
      lines.append("  \(quoted(edge.from)) -> \(quoted(edge.to)) [label=\(quoted(edge.label))];")
    }
    return (lines + ["}"]).joined(separator: "\n")
  }

  /// Columns by depth; within a column in the order of the text.
  static func svg(_ plan: Plan, _ fills: [String: String] = [:]) -> String {
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
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(right)\" height=\"\(bottom)\" font-family=\"sans-serif\" font-size=\"12\">",
      "<defs><marker id=\"end\" viewBox=\"0 0 6 6\" refX=\"6\" refY=\"3\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0 L6,3 L0,6 z\" fill=\"#8a8a8a\"/></marker></defs>",
    ]
    for edge in edges(plan) {
      guard let a = places[edge.from], let b = places[edge.to] else { continue }
      let (x1, y1, x2, y2) = (a.x + width, a.y + height / 2, b.x, b.y + height / 2)
      // Past other columns the line goes between the rows, or it would lie behind their boxes.
      let bow = (depth[edge.to] ?? 0) - (depth[edge.from] ?? 0) > 1 && y1 == y2 ? height + gapY / 2 : 0
      parts.append(
        "<path d=\"M\(x1),\(y1) C\(x1 + 40),\(y1 + bow) \(x2 - 40),\(y2 + bow) \(x2),\(y2)\" fill=\"none\" stroke=\"#8a8a8a\" marker-end=\"url(#end)\"/>"
      )
    }
    for name in names {
      guard let place = places[name] else { continue }
      let fill = fills[name] ?? (plan.stage(name) == nil ? "#efefef" : "#e6ecf5")
      parts.append(
        "<rect x=\"\(place.x)\" y=\"\(place.y)\" width=\"\(width)\" height=\"\(height)\" rx=\"5\" fill=\"\(fill)\" stroke=\"#5a5a5a\"/>"
          + "<text x=\"\(place.x + width / 2)\" y=\"\(place.y + 19)\" text-anchor=\"middle\">\(escaped(name))</text>"
      )
    }
    return (parts + ["</svg>"]).joined(separator: "\n")
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
      let catalog = try Project.catalog(root)
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
