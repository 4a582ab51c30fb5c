import ArgumentParser
import FlowCore
import FlowModels
import FlowNN
import FlowStore
import FlowTensor
import FlowTensorCPU
import Foundation

struct Convert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Writes a model's weights as safetensors.",
    discussion: """
      Reads safetensors, the index of sharded safetensors, and files of torch.save (1.6 and later). Nothing in a file is
      run: a pickle that does more than rebuild tensors is refused, by the instruction's name.
      """)
  @Argument(help: "The weights: *.safetensors, *.index.json, *.bin, *.pt.") var input: String
  @Argument(help: "The file to write.") var output: String
  @Option(help: "The dictionary of tensors in a file of torch.save, such as 'generator', if it has several.")
  var group: String?
  @Flag(help: "Folds weight norm: each pair weight_g, weight_v becomes the weight it stands for.")
  var fold = false
  @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

  func run() async throws {
    try await reporting(json: json) {
      try OutputFile.check(output)
      var weights = try Weights.read(input, group: group)
      if fold {
        weights = try Weights.explained(input) { try Vocoder.folded(weights, on: CPUBackend()) }
      }
      try Weights.write(weights, to: output)
      Weights.report(weights, at: output, json: json)
    }
  }
}

/// What commands do with weights, with errors for a reader.
enum Weights {
  /// Runs `body`; what it throws is a mistake in the file `path`.
  static func explained<R>(_ path: String, _ body: () throws -> R) throws -> R {
    do { return try body() } catch {
      let help: String? =
        switch error {
        case TorchError.instruction: "get the weights from whom you trust, as safetensors"
        case SafetensorsError.truncated, SafetensorsError.notCovered, SafetensorsError.cutShort:
          "the file was not fetched whole; fetch it again"
        case AdapterError.otherBase, AdapterError.shape, AdapterError.missing, AdapterError.unexpected:
          "give the base that the adapter was trained on, or train it again on this one"
        default: nil
        }
      throw Diagnostics([Diagnostic(code: "E060", "\(path): \(error)", help: help)])
    }
  }

  static func read(_ path: String, group: String? = nil) throws -> [String: HostTensor] {
    try explained(path) { try WeightFile.read(path, group: group) }
  }

  static func write(_ weights: [String: HostTensor], to path: String) throws {
    do throws(FileError) { try Safetensors.write(weights, metadata: ["format": "pt"], to: path) } catch {
      throw StoreError.unwritable(path: path, reason: error.reason)
    }
  }

  static func report(_ weights: [String: HostTensor], at path: String, json: Bool) {
    let count = weights.values.reduce(0) { $0 + $1.shape.reduce(1, *) }
    if json {
      let document = JSON.object([
        "schema": "flow.convert/1", "output": .string(path), "tensors": .int(weights.count),
        "values": .int(count),
      ])
      return Terminal.out(document.pretty)
    }
    Terminal.out("\(path): \(weights.count) tensors, \(count) values")
  }
}
