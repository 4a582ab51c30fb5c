import ArgumentParser
import FlowCore
import FlowPlan
import FlowStore
import Foundation

struct ConfigCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "Shows every value that a pipeline comes to, and where it was said.")
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }
  @Flag(name: .long, help: "With file:line:column, or the option or variable it came from.") var showOrigin =
    false

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let file = try options.pipeline ?? Project.onlyPipeline()
      let root = Project.root(from: file)
      let settings = try Resolver.settings(
        file: file, text: try FileText.document(file), catalog: Project.catalog(root),
        overrides: options.overrides)
      var rows = settings.map {
        (path: $0.path, value: $0.value.canonical, origin: ConfigCommand.origin($0.place))
      }
      let environment = ProcessInfo.processInfo.environment
      let cache = environment["FLOW_CACHE"]
      rows.append(
        (
          "cache.path", JSON.string(cache ?? (root == "." ? "cache" : root + "/cache")).canonical,
          cache == nil ? "default" : "FLOW_CACHE"
        ))
      if let remote = try? RemoteOptions.address(nil, root: root) {
        rows.append(("cache.remote", JSON.string(remote.address).canonical, remote.origin))
      }
      if options.json {
        return Terminal.out(
          JSON.object([
            "schema": "flow.config/1", "pipeline": .string(file),
            "values": .array(
              rows.map {
                [
                  "path": .string($0.path), "value": (try? JSON(parsing: $0.value.utf8)) ?? .string($0.value),
                  "origin": .string($0.origin),
                ]
              }),
          ]).pretty)
      }
      let width = rows.map { $0.path.count + $0.value.count + 3 }.filter { $0 < 80 }.max() ?? 0
      for row in rows {
        let text = "\(row.path) = \(row.value)"
        Terminal.out(showOrigin ? "\(Terminal.padded(text, width))  \(row.origin)" : text)
      }
    }
  }

  private static func origin(_ place: SourceLocation?) -> String {
    guard let place else { return "default" }
    return place.file == "--set" ? "--set" : "\(place.file):\(place.line):\(place.column)"
  }
}
