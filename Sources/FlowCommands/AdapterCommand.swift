import ArgumentParser
import FlowCore
import FlowNN
import FlowStore
import FlowTensor
import FlowTensorCPU

struct AdapterCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapter", abstract: "Looks at, merges and stacks LoRA adapters.",
    subcommands: [Inspect.self, Merge.self, Stack.self])

  /// `DIR` or `DIR=STRENGTH`.
  struct Part {
    let adapter: Adapter
    let strength: Double

    init(_ text: String) throws {
      let sides = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard let folder = sides.first, let strength = sides.count == 1 ? 1 : Double(sides[1]),
        strength.isFinite
      else {
        throw Diagnostics([
          Diagnostic(
            code: "E012", "'\(text)' is no adapter", help: "write FOLDER, or FOLDER=0.5 for half of it")
        ])
      }
      adapter = try Weights.explained(folder) { try Adapter(folder: folder) }
      self.strength = strength
    }
  }

  struct Inspect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "inspect", abstract: "Says what an adapter changes, and whether it fits a base.")
    @Argument(help: "The adapter's folder.") var folder: String
    @Option(help: "The base's weights, to check against.") var base: String?
    @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

    func run() async throws {
      try await reporting(json: json) {
        let adapter = try Part(folder).adapter
        if let base {
          let shapes = try Weights.read(base).mapValues(\.shape)
          _ = try Weights.explained(folder) { try adapter.fitted(to: shapes) }
        }
        let settings = adapter.settings
        if json {
          return Terminal.out(
            JSON.object([
              "schema": "flow.adapter/1", "rank": .int(settings.rank), "alpha": .double(settings.alpha),
              "scale": .double(settings.scale), "targets": .array(settings.targets.map(JSON.string)),
              "base": adapter.base.map(JSON.string) ?? .null, "tensors": .int(adapter.weights.count),
              "values": .int(adapter.parameterCount),
            ]).pretty)
        }
        Terminal.out(
          "rank     \(settings.rank), alpha \(settings.alpha), so changes are scaled by \(settings.scale)")
        Terminal.out("targets  \(settings.targets.joined(separator: ", "))")
        Terminal.out("size     \(adapter.weights.count) tensors, \(adapter.parameterCount) values")
        Terminal.out("base     \(adapter.base ?? "not named")\(base.map { "; fits \($0)" } ?? "")")
      }
    }
  }

  struct Merge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "merge", abstract: "Adds adapters to their base's weights.")
    @Argument(help: "The base's weights.") var base: String
    @Argument(help: "The safetensors file to write.") var output: String
    @Argument(help: "Adapters: FOLDER, or FOLDER=STRENGTH.") var adapters: [String]
    @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

    func run() async throws {
      try await reporting(json: json) {
        try OutputFile.check(output)
        var weights = try Weights.read(base)
        for text in adapters {
          let part = try Part(text)
          weights = try Weights.explained(text) {
            try part.adapter.merged(into: weights, on: CPUBackend(), strength: part.strength)
          }
        }
        try Weights.write(weights, to: output)
        Weights.report(weights, at: output, json: json)
      }
    }
  }

  struct Stack: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "stack",
      abstract: "Makes one adapter of several, which changes the base as all of them together.")
    @Argument(help: "The folder to write.") var output: String
    @Argument(help: "Adapters: FOLDER, or FOLDER=STRENGTH.") var adapters: [String]
    @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

    func run() async throws {
      try await reporting(json: json) {
        let parts = try adapters.map(Part.init)
        let stack = try Weights.explained(output) {
          try Adapter.stacked(parts.map { ($0.adapter, $0.strength) })
        }
        do throws(FileError) { try stack.write(to: output) } catch {
          throw StoreError.unwritable(path: output, reason: error.reason)
        }
        Weights.report(stack.weights, at: output, json: json)
      }
    }
  }
}
