import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCPU
import Foundation

/// One network among the items of an input: its sizes and its weights. A stage gives them as `model.json` and
/// `model.safetensors` in an item; of a folder that is a source, they are an item called `model`, or several for shards.
struct NetworkFiles {
  /// Which network.
  enum Kind: String { case model, decoder, encoder }

  private let kind: Kind
  private let config: (item: InputItem, file: String)
  private let weights: [(item: InputItem, file: String)]

  /// The network `kind` among `items`; `nil` when none of them has it.
  init?(_ items: [InputItem], _ kind: Kind) {
    let name = kind.rawValue
    if let item = items.first(where: { $0.has(name + ".json") }) {
      config = (item, name + ".json")
      weights = item.fileNames.filter { $0.hasPrefix(name) && $0.hasSuffix(".safetensors") }.map {
        (item, $0)
      }
    } else if let item = items.first(where: { $0.item.id == name && $0.has("source.json") }) {
      config = (item, "source.json")
      weights = items.filter {
        ($0.item.id == name || $0.item.id.hasPrefix(name + "-")) && $0.has("source.safetensors")
      }.map { ($0, "source.safetensors") }
    } else {
      return nil
    }
    self.kind = kind
  }

  /// The network of the input `port`, `nil` when that isn't bound.
  /// - Throws: `StageFailure` when it is bound and has no such network.
  static func optional(_ context: StageContext, _ port: String, _ kind: Kind) throws -> NetworkFiles? {
    let items = context.items(port)
    guard !items.isEmpty else { return nil }
    guard let found = NetworkFiles(items, kind), !found.weights.isEmpty else {
      let names = items.map { "\($0.item.id): \($0.fileNames.joined(separator: ", "))" }
      throw StageFailure(
        "input '\(port)' has no \(kind.rawValue).json and \(kind.rawValue).safetensors"
          + " (it has \(names.joined(separator: "; ")))")
    }
    return found
  }

  /// The same where the input must be bound.
  init(_ context: StageContext, _ port: String, _ kind: Kind) throws {
    guard let found = try NetworkFiles.optional(context, port, kind) else {
      throw StageFailure("input '\(port)' has no item")
    }
    self = found
  }

  /// Its sizes.
  func config<T: Decodable>(_ type: T.Type) throws -> T {
    try ModelFiles.config(config.item, config.file, type)
  }

  /// The files of its weights, mapped.
  /// - Throws: `StageFailure` for one that isn't whole.
  func files() throws -> [SafetensorsFile] {
    try weights.map { item, file in
      do { return try SafetensorsFile(path: item.path(file)) } catch let error as SafetensorsError {
        throw StageFailure(
          "the \(kind.rawValue)'s weights (\(file)) can't be used: \(error)",
          help: "the file was not fetched or written whole; fetch it again")
      }
    }
  }

  /// Its tensors in memory, float32.
  func tensors() throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for file in try files() {
      for name in file.names { result[name] = try file.tensor(name).cast(to: .float32) }
    }
    return result
  }

  /// Its weights in memory as its parameters are declared: a decoder's without its fixed filters, its weight norm unfolded.
  func parameters() throws -> [String: HostTensor] {
    let tensors = try tensors()
    return kind == .decoder ? try Vocoder.unfolded(tensors.filter { !$0.key.hasSuffix(".filter") }) : tensors
  }

  /// Whether its weight norm is folded.
  private func isFolded(_ files: [SafetensorsFile]) -> Bool {
    kind == .decoder && files.contains { $0.names.contains("conv_pre.weight") }
  }

  /// As below, on the CPU.
  func store(threads: Int) throws -> ParameterStore { try store(on: CPUBackend(threads: threads)) }

  /// Its weights where they lie, of the types they are kept in, to be read only.
  func store(on backend: any Backend) throws -> ParameterStore {
    let (store, files) = (ParameterStore(backend), try files())
    if isFolded(files) {
      for (name, value) in try parameters() { try store.set(name, value) }
      return store
    }
    for file in files {
      try store.load(file, keeping: [.float32, .bfloat16, .float16], borrowing: true)
    }
    return store
  }

  /// What an adapter says it was trained on: a name that only weights of the same bytes have.
  var name: String {
    BaseName.of(
      weights.compactMap { item, file in item.item.files.first { $0.name == file }?.digest })
  }

  /// The adapter in `item`.
  /// - Throws: `AdapterError`, `SafetensorsError`.
  static func adapter(_ item: InputItem) throws -> Adapter {
    try Adapter(config: item.path(Adapter.configFile), weights: item.path(Adapter.weightsFile))
  }
}
