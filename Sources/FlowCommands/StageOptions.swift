import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import Foundation

/// What a command on one stage takes: `[PIPELINE] STAGE [ITEM]`. The pipeline may also come as `--pipeline`.
struct StageOptions: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "The pipeline's file (or --pipeline), the stage, one of its items.",
      valueName: "[PIPELINE] STAGE [ITEM]"),
    completion: .custom { _, _, _ in StageOptions.stageNames() })
  var words: [String] = []
  @OptionGroup var shared: SharedOptions

  func validate() throws {
    let left = words.count - (hasFile ? 1 : 0)
    if !(1...2).contains(left) { throw ValidationError("give a stage, and one of its items if you like") }
  }

  private var hasFile: Bool { words.first?.hasSuffix(".yaml") ?? false }
  /// The stage's name.
  var stage: String { words[hasFile ? 1 : 0] }
  /// The item's name.
  var item: String? { words.count > (hasFile ? 2 : 1) ? words[words.count - 1] : nil }
  /// The project, with the pipeline of these options.
  func project() throws -> Project { try Project(shared, pipeline: hasFile ? words[0] : nil) }

  /// The stages of the project's only pipeline, for a shell's completion.
  static func stageNames() -> [String] {
    guard let project = try? Project(SharedOptions.parse([]), pipeline: nil) else { return [] }
    return project.plan.stages.map(\.name)
  }
}

struct Why: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "why",
    abstract: "Says why a stage, or one of its items, has to run: old -> new.")
  @OptionGroup var options: StageOptions

  func run() async throws {
    try await reporting(json: options.shared.json, noColor: options.shared.noColor) {
      let project = try options.project()
      let found = try project.engine(jobs: nil).why(project.plan, stage: options.stage, item: options.item)
      let name = [options.stage, options.item].compactMap { $0 }.joined(separator: " ")
      if options.shared.json {
        return Terminal.out(
          JSON.object([
            "schema": "flow.why/1", "stage": .string(options.stage),
            "item": options.item.map { .string($0) } ?? .null,
            "key": found.key.map { .string($0.hex) } ?? .null, "up_to_date": .bool(found.reasons.isEmpty),
            "reasons": .array(found.reasons.map { .string($0.description) }),
          ]).pretty)
      }
      if found.reasons.isEmpty { return Terminal.out("\(name) is up to date") }
      for reason in found.reasons { Terminal.out("\(reason)") }
    }
  }
}

struct Log: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log",
    abstract: "Shows what a stage said when it ran; without an item, the first.")
  @OptionGroup var options: StageOptions

  func run() async throws {
    try await reporting(json: options.shared.json, noColor: options.shared.noColor) {
      let project = try options.project()
      let engine = project.engine(jobs: nil)
      let key = try engine.why(project.plan, stage: options.stage, item: options.item).key
      let text = key.flatMap(engine.log)
      if options.shared.json {
        return Terminal.out(
          JSON.object([
            "schema": "flow.log/1", "stage": .string(options.stage),
            "item": options.item.map { .string($0) } ?? .null,
            "key": key.map { .string($0.hex) } ?? .null,
            "lines": text.map { .array($0.split(separator: "\n").map { .string(String($0)) }) } ?? .null,
          ]).pretty)
      }
      guard let text else {
        Terminal.error("\(options.stage) has no log yet: it has not run with these values")
        throw ExitCode(1)
      }
      Terminal.out(text.isEmpty ? "(it said nothing)" : text)
    }
  }
}
