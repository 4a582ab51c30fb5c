import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStageKit
import FlowStages
import FlowStore
import Foundation

/// The command `flow`.
struct Flow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "flow", abstract: "Fine-tunes a song generator from one YAML file.",
    discussion:
      "'flow help exit-codes' explains the exit codes; 'flow help topics' lists what else there is to read.",
    version: "0.1.0",
    subcommands: [
      Init.self, Run.self, PlanCommand.self, Status.self, Why.self, Log.self, MetricsCommand.self,
      DiffCommand.self,
      GraphCommand.self, ConfigCommand.self, Validate.self, Stages.self, ProgramCommand.self,
      SchemaCommand.self, SampleCommand.self, LyricsCommand.self, Convert.self, AdapterCommand.self,
      Cache.self,
      Doctor.self,
      Completion.self, MergeLock.self, Exec.self,
    ])

}

struct Stages: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stages", abstract: "Lists the stages, or shows one.")
  @Argument(help: "A stage.") var name: String?
  @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

  func run() async throws {
    try await reporting(json: json) {
      let catalog = try Project.catalog(Project.root(from: nil))
      guard let name else {
        if json {
          return Terminal.out(
            JSON.object([
              "schema": "flow.stages/1",
              "stages": .array(catalog.names.compactMap { catalog[$0].map(Stages.document) }),
            ]).pretty)
        }
        for stage in catalog.names.compactMap({ catalog[$0] }) {
          Terminal.out("\(Terminal.padded(stage.name, 20)) \(stage.doc)")
        }
        return
      }
      guard let stage = catalog[name] else {
        throw Diagnostics([
          Diagnostic(
            code: "E020", "there is no stage '\(name)'",
            help: DidYouMean.hint(name, among: catalog.names, what: "stage"))
        ])
      }
      if json { return Terminal.out(Stages.document(stage).pretty) }
      let kind = stage.run == .pipeline ? "a pipeline" : "version \(stage.version), per \(stage.per.rawValue)"
      Terminal.out("\(stage.name), \(kind)\n\(stage.doc)")
      for input in stage.inputs {
        let flags = [input.whole ? "all items" : nil, input.optional ? "optional" : nil].compactMap { $0 }
        Terminal.out(
          "  in   \(input.name): \(input.type.rawValue)\(flags.isEmpty ? "" : " (\(flags.joined(separator: ", ")))")  \(input.doc)"
        )
      }
      for output in stage.outputs {
        Terminal.out("  out  \(output.name): \(output.type.rawValue)  \(output.doc)")
      }
      for parameter in stage.parameters {
        let standard = parameter.standard.map { "default \($0.canonical)" } ?? "required"
        Terminal.out(
          "  with \(parameter.name): \(Stages.kind(parameter.kind)), \(standard)\(parameter.unit.isEmpty ? "" : " \(parameter.unit)")  \(parameter.doc)"
        )
      }
    }
  }

  private static func document(_ stage: StageDeclaration) -> JSON {
    .object([
      "name": .string(stage.name), "version": .int(stage.version), "doc": .string(stage.doc),
      "per": .string(stage.per.rawValue),
      "inputs": .array(
        stage.inputs.map {
          [
            "name": .string($0.name), "type": .string($0.type.rawValue), "doc": .string($0.doc),
            "whole": .bool($0.whole), "optional": .bool($0.optional),
          ]
        }),
      "outputs": .array(
        stage.outputs.map {
          ["name": .string($0.name), "type": .string($0.type.rawValue), "doc": .string($0.doc)]
        }),
      "params": .array(
        stage.parameters.map {
          [
            "name": .string($0.name), "type": .string(kind($0.kind)), "default": $0.standard ?? .null,
            "required": .bool($0.standard == nil), "unit": .string($0.unit), "doc": .string($0.doc),
            "affects_result": .bool($0.affectsResult),
          ]
        }),
    ])
  }

  private static func kind(_ kind: ParameterDeclaration.Kind) -> String {
    func range<T>(_ name: String, _ low: T?, _ high: T?) -> String {
      low == nil && high == nil ? name : "\(name) \(low.map { "\($0)" } ?? "")…\(high.map { "\($0)" } ?? "")"
    }
    return switch kind {
    case .bool: "bool"
    case .int(let low, let high): range("int", low, high)
    case .float(let low, let high): range("float", low, high)
    case .string: "string"
    case .choice(let choices): choices.joined(separator: " | ")
    case .ints(let low, let high): range("list of int", low, high)
    case .floats(let low, let high): range("list of float", low, high)
    case .strings: "list of string"
    case .file: "file"
    }
  }
}

struct Validate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Checks a pipeline and the stages; runs nothing.")
  @Argument(help: PipelineOptions.help, completion: .file(extensions: ["yaml"])) var word: String?
  @OptionGroup var shared: SharedOptions
  var options: PipelineOptions { PipelineOptions(word: word, shared: shared) }

  func run() async throws {
    try await reporting(json: options.json, noColor: options.noColor) {
      let project = try Project(options)
      for stage in project.plan.stages where stage.declaration.run == .native {
        guard let native = AllStages.list.first(where: { $0.name == stage.declaration.name }) else {
          throw Diagnostics([
            Diagnostic(
              code: "E026", "stage '\(stage.declaration.name)' is declared but not built in",
              at: stage.location)
          ])
        }
        var parameters = stage.parameters
        for parameter in stage.declaration.parameters where parameters[parameter.name] == .null {
          if case .file = parameter.kind { parameters[parameter.name] = "" }
        }
        do { try native.check(parameters: .object(parameters)) } catch {
          throw Diagnostics([Diagnostic(code: "E027", "stage '\(stage.name)': \(error)", at: stage.location)])
        }
      }
      Terminal.out("\(project.plan.file) is valid: \(project.plan.stages.count) stages")
    }
  }
}

struct Cache: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cache",
    abstract: "Looks after the cache.",
    subcommands: [Usage.self, Verify.self, Collect.self, Push.self, Pull.self, RemoteCommand.self])

  struct Usage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "du", abstract: "Says how large it is.")
    func run() async throws {
      try await reporting {
        let store = try Project.store(Project.root(from: nil))
        let objects = store.objectDigests()
        let bytes = objects.reduce(0) { $0 + store.diskSize($1) }
        Terminal.out(
          "\(objects.count) objects, \(store.recordKeys().count) records, \(bytes / 1_048_576) MiB in \(store.root)"
        )
      }
    }
  }

  struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "verify",
      abstract: "Reads everything and sets damaged objects aside.")
    func run() async throws {
      try await reporting {
        let (checked, damaged) = try Project.store(Project.root(from: nil)).verify()
        Terminal.out("\(checked) checked, \(damaged.count) damaged and set aside")
        for name in damaged { Terminal.out("  \(name)") }
        if !damaged.isEmpty { Terminal.out("the next run makes them again") }
      }
    }
  }
}
