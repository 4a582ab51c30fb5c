import FlowCore
import FlowNN
public import FlowTensor
import Foundation

/// Trained conditions in files of their own, beside the base whose bytes they were trained for: `conditions.json` and
/// `conditions.safetensors`.
public struct ConditionAdapter: Sendable {
  /// Which conditions, and how wide.
  public var sizes: ConditionSizes
  /// What the base is called (`BaseName`).
  public var base: String
  /// Their weights by name.
  public var weights: [String: HostTensor]

  /// The names of the files.
  public static let configFile = "conditions.json", weightsFile = "conditions.safetensors"
  private static let format = "flow-conditions-v1"

  private struct Document: Codable {
    var format: String
    var base: String
    var sizes: ConditionSizes
  }

  /// Conditions.
  public init(_ sizes: ConditionSizes, base: String, weights: [String: HostTensor]) {
    self.sizes = sizes
    self.base = base
    self.weights = weights
  }

  /// Reads the two files.
  /// - Throws: `ConditionError`, `SafetensorsError`.
  public init(config: String, weights path: String) throws {
    guard let data = FileManager.default.contents(atPath: config) else {
      throw ConditionError.unreadable("\(config) can't be read")
    }
    let document: Document
    do { document = try JSONDecoder().decode(Document.self, from: data) } catch {
      throw ConditionError.unreadable("\(config) is no description of conditions: \(error)")
    }
    guard document.format == ConditionAdapter.format else {
      throw ConditionError.unreadable(
        "\(config) has the format '\(document.format)', not '\(ConditionAdapter.format)'")
    }
    (sizes, base) = (document.sizes, document.base)
    let bound = 1..<1 << 24
    guard bound.contains(sizes.hidden), bound.contains(sizes.output),
      !sizes.kinds.contains(.singer) || bound.contains(sizes.singerWidth), !sizes.kinds.isEmpty
    else { throw ConditionError.unreadable("\(config): its sizes must be positive") }
    weights = [:]
    let file = try SafetensorsFile(path: path)
    for name in file.names { weights[name] = try file.tensor(name) }
  }

  /// The contents of the two files by name.
  /// - Throws: `EncodingError`.
  public func files() throws -> [String: [UInt8]] {
    let document = Document(format: ConditionAdapter.format, base: base, sizes: sizes)
    return [
      ConditionAdapter.configFile: Array((try JSON(encoding: document).pretty + "\n").utf8),
      ConditionAdapter.weightsFile: Safetensors.encode(weights, metadata: ["format": "pt"]),
    ]
  }

  /// Throws unless it fits a model of the sizes `config` that is called `name`; without a name the base isn't asked for.
  /// - Throws: `ConditionError`, `TensorError`.
  public func check(_ config: DiTConfig, named name: String?) throws {
    if let name, name != base { throw ConditionError.otherBase(expected: name, found: base) }
    guard sizes.output == config.condDim else {
      throw ConditionError.width(expected: config.condDim, found: sizes.output)
    }
    let list = ParameterList(Graph())
    let networks = Conditions(sizes, list)
    let inputs = try networks.inputs(list.graph, batch: 1, frames: 1)
    _ = try networks.frames(inputs)
    _ = try networks.style(list.graph.input("style", [1, sizes.output]), singer: inputs[.singer])
    try list.accept(weights.mapValues(\.shape))
    guard !weights.isEmpty else { throw ParameterError.missing(list.declarations.map(\.name).sorted()) }
  }
}

/// Why conditions were refused.
public enum ConditionError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A file can't be read, or isn't what it should be.
  case unreadable(String)
  /// They were trained for another base.
  case otherBase(expected: String, found: String)
  /// They were trained for a model of another width.
  case width(expected: Int, found: Int)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let why): why
    case .otherBase(let expected, let found):
      "the conditions were trained for '\(found)', but the base is '\(expected)'"
    case .width(let expected, let found):
      "the conditions add \(found) numbers, but the model's tokens have \(expected): they are for another model"
    }
  }
}
