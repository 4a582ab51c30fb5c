public import FlowCore
public import FlowTensor
import Foundation

/// A low-rank adapter as Python's `peft` keeps it: a folder of `adapter_config.json` and `adapter_model.safetensors`
/// (spec 10). Settings that change what the weights mean and that flow can't honour are refused, not ignored.
public struct Adapter: Sendable {
  /// Rank, scale and targets.
  public var settings: LowRank
  /// The model it was trained on, if it says.
  public var base: String?
  /// A and B of each layer: its path, then `.lora_A.weight` [rank, in] or `.lora_B.weight` [out, rank].
  public var weights: [String: HostTensor]

  /// The names of the folder's files.
  public static let configFile = "adapter_config.json", weightsFile = "adapter_model.safetensors"

  /// What keys in the file begin with, before the layer's path.
  private static let prefix = "base_model.model."

  /// An adapter.
  public init(_ settings: LowRank, base: String?, weights: [String: HostTensor]) {
    self.settings = settings
    self.base = base
    self.weights = weights
  }

  /// Reads a folder.
  /// - Throws: `AdapterError`, `SafetensorsError`.
  public init(folder: String) throws {
    try self.init(
      config: folder + "/" + Adapter.configFile, weights: folder + "/" + Adapter.weightsFile)
  }

  /// Reads the two files.
  /// - Throws: `AdapterError`, `SafetensorsError`.
  public init(config path: String, weights: String) throws {
    let text: [UInt8]?
    do { text = try RealFileSystem().contents(path) } catch {
      throw AdapterError.unreadable("\(path): \(error.reason)")
    }
    guard let text else {
      let (folder, name) = (
        Path.parent(path), (path as NSString).lastPathComponent
      )
      throw AdapterError.unreadable("\(folder) has no \(name)")
    }
    let config: JSON
    do { config = try JSON(parsing: Data(text)) } catch {
      throw AdapterError.unreadable("\(path) is not JSON: \(error)")
    }
    let file = try SafetensorsFile(path: weights)
    let strange = file.names.filter {
      !$0.hasPrefix(Adapter.prefix) || LowRank.module(ofKey: $0) == nil
    }
    guard strange.isEmpty else { throw AdapterError.unexpected(keys: strange) }
    self.weights = [:]
    for name in file.names {
      self.weights[String(name.dropFirst(Adapter.prefix.count))] = try file.tensor(name)
    }
    (settings, base) = try AdapterConfig.read(
      config, layers: Set(self.weights.keys.compactMap(LowRank.module)))
  }

  /// This adapter under the layer paths of a base, whose wrapper `transformer.` may be in one of the two only.
  /// - Parameters:
  ///   - shapes: the base's parameters.
  ///   - name: what the base is called; an adapter that says it was trained on another is refused.
  /// - Throws: `AdapterError` for the first of: another base, keys without a layer, keys that lack, shapes that differ.
  public func fitted(to shapes: [String: [Int]], named name: String? = nil) throws(AdapterError) -> Adapter {
    if let name, let base, name != base { throw .otherBase(expected: name, found: base) }
    func path(_ layer: String) -> String? {
      let wrapper = "transformer."
      let bare = layer.hasPrefix(wrapper) ? String(layer.dropFirst(wrapper.count)) : layer
      return [layer, wrapper + layer, bare].first { shapes[$0 + ".weight"]?.count == 2 }
    }
    var result = Adapter(settings, base: base, weights: [:])
    result.settings.targets = settings.targets.map { path($0) ?? $0 }
    var unexpected: [String] = []
    for (key, value) in weights {
      guard let layer = LowRank.module(ofKey: key), let known = path(layer) else {
        unexpected.append(Adapter.prefix + key)
        continue
      }
      result.weights[known + key.dropFirst(layer.count)] = value
    }
    guard unexpected.isEmpty else { throw .unexpected(keys: unexpected) }
    let covered = shapes.filter {
      $0.value.count == 2 && $0.key.hasSuffix(".weight") && result.settings.covers(String($0.key.dropLast(7)))
    }
    let layers = Set(result.weights.keys.compactMap(LowRank.module))
      .union(covered.keys.map { String($0.dropLast(7)) })
    let missing = layers.flatMap { [$0 + LowRank.down, $0 + LowRank.up] }
      .filter { result.weights[$0] == nil }
    guard missing.isEmpty else { throw .missing(keys: missing.map { Adapter.prefix + $0 }) }
    for layer in layers.sorted() {
      guard let shape = shapes[layer + ".weight"] else { continue }
      for (key, expected) in [
        (layer + LowRank.down, [settings.rank, shape[1]]), (layer + LowRank.up, [shape[0], settings.rank]),
      ] {
        if let found = result.weights[key]?.shape, found != expected {
          throw .shape(key: Adapter.prefix + key, expected: expected, found: found)
        }
      }
    }
    return result
  }

  /// The base's weights with s·B·A added to each layer's, so that no adapter is needed any more. What is added to becomes
  /// float32, so that a small change is not rounded away; other weights stay as they are.
  /// - Parameter strength: a further factor of the change.
  /// - Throws: `AdapterError` as `fitted`; `TensorError` when memory runs out.
  public func merged(
    into base: [String: HostTensor], on backend: any Backend, strength: Double = 1
  ) throws -> [String: HostTensor] {
    let fitted = try fitted(to: base.mapValues(\.shape))
    var result = base
    for layer in Set(fitted.weights.keys.compactMap(LowRank.module)) {
      guard let weight = base[layer + ".weight"]?.cast(to: .float32),
        let down = fitted.weights[layer + LowRank.down]?.cast(to: .float32),
        let up = fitted.weights[layer + LowRank.up]?.cast(to: .float32)
      else { continue }
      let graph = Graph()
      let sum = try graph.scope(layer) {
        let change = try graph.input("B", up.shape).matmul(graph.input("A", down.shape))
        return try graph.input("W", weight.shape) + change * Float(settings.scale * strength)
      }
      let program = try Program(graph, outputs: ["sum": sum], parameters: ParameterStore(backend))
      result[layer + ".weight"] = try program.run(["W": weight, "A": down, "B": up])["sum"]
    }
    return result
  }

  /// The contents of the folder, by the names of its files.
  public func files() -> [String: [UInt8]] {
    var named: [String: HostTensor] = [:]
    for (key, value) in weights { named[Adapter.prefix + key] = value }
    return [
      Adapter.configFile: Array((AdapterConfig.write(settings, base: base).pretty + "\n").utf8),
      Adapter.weightsFile: Safetensors.encode(named, metadata: ["format": "pt"]),
    ]
  }

  /// Writes a folder, which is made if need be; each file is there whole or not at all, the configuration last.
  /// - Throws: `FileError`.
  public func write(to folder: String, through system: any FileSystem = RealFileSystem()) throws(FileError) {
    try system.makeFolders(folder)
    let files = files()
    for name in [Adapter.weightsFile, Adapter.configFile] {
      try Safetensors.publish(files[name] ?? [], folder + "/" + name, system)
    }
  }
}
