public import FlowCore
public import FlowTensor

/// A low-rank adaptation of linear layers (Hu et al. 2022): W x + s·B(A(x)) with A [rank, in] and B [out, rank], where
/// s is alpha / rank, or alpha / √rank when stabilised (Kalajdzievski 2023).
public struct LowRank: Sendable, Hashable, Codable {
  /// Rank of the change.
  public var rank: Int
  /// Its scale, times the rank.
  public var alpha: Double
  /// Share of A's inputs that is dropped in training.
  public var dropout: Double
  /// The scale is divided by the root of the rank, not the rank (rsLoRA).
  public var isStabilized: Bool
  /// Which layers: their paths or the ends of those, such as `q_proj` or `mlp.up_proj`.
  public var targets: [String]

  /// An adaptation of `targets`.
  public init(
    rank: Int, alpha: Double, targets: [String], dropout: Double = 0, isStabilized: Bool = false
  ) {
    self.rank = rank
    self.alpha = alpha
    self.targets = targets
    self.dropout = dropout
    self.isStabilized = isStabilized
  }

  /// The factor s.
  public var scale: Double { alpha / (isStabilized ? Double(rank).squareRoot() : Double(rank)) }

  /// Whether the layer at `path` is a target.
  public func covers(_ path: String) -> Bool {
    targets.contains { path == $0 || path.hasSuffix("." + $0) }
  }

  /// The names of a layer's parameters A and B, after its path.
  static let down = ".lora_A.weight", up = ".lora_B.weight"

  /// The path of the layer whose A or B the parameter `key` is.
  public static func module(ofKey key: String) -> String? {
    for end in [down, up] where key.hasSuffix(end) && key.count > end.count {
      return String(key.dropLast(end.count))
    }
    return nil
  }
}

/// A low-rank adaptation that a `ParameterList` applies while a model is recorded.
public final class Adaptation {
  /// Which layers, and how.
  public let settings: LowRank
  private let dropoutKey: Tensor?
  private let ranks: any Communicator
  private var streams: UInt32 = 0

  /// - Parameters:
  ///   - dropoutKey: seed and step, int32 [2], that a training's dropout is drawn from; without it nothing is dropped.
  ///   - ranks: those that share the batch, along the first axis; what is dropped doesn't depend on them.
  public init(_ settings: LowRank, dropoutKey: Tensor? = nil, ranks: any Communicator = SoleRank()) {
    self.settings = settings
    self.dropoutKey = dropoutKey
    self.ranks = ranks
  }

  /// `x`, with a share of its elements dropped; each use draws anew.
  fileprivate func dropped(_ x: Tensor) throws(TensorError) -> Tensor {
    guard let dropoutKey, settings.dropout > 0 else { return x }
    streams += 1
    return try x.dropout(
      Float(settings.dropout), key: dropoutKey, stream: Adaptation.firstStream + streams, part: ranks.rank,
      of: ranks.size)
  }

  /// Far from the streams that models use themselves.
  private static let firstStream: UInt32 = 0x4C6F_0000
}

/// The low-rank part of one layer.
struct Adapted {
  private let adaptation: Adaptation
  private let down: Tensor
  private let up: Tensor

  init(
    _ adaptation: Adaptation, _ scope: ParameterScope, _ input: Int, _ output: Int
  ) throws(TensorError) {
    let rank = adaptation.settings.rank
    guard rank > 0 else {
      throw .argument(op: "low rank", problem: "a rank of \(rank) is not positive", path: scope.prefix)
    }
    self.adaptation = adaptation
    down = try scope["lora_A"].parameter("weight", [rank, input], .fanIn(input))
    up = try scope["lora_B"].parameter("weight", [output, rank], .zeros)
  }

  /// [..., in] -> [..., out].
  func callAsFunction(_ x: Tensor) throws(TensorError) -> Tensor {
    let hidden = try adaptation.dropped(x).linear(down) * Float(adaptation.settings.scale)
    return try hidden.linear(up)
  }
}

extension ParameterList {
  /// Throws unless each target of `adaptation` is a linear layer of the model that this list recorded.
  /// - Throws: `AdapterError.noLayer`.
  public func check(_ adaptation: LowRank) throws(AdapterError) {
    for target in adaptation.targets {
      let one = LowRank(rank: adaptation.rank, alpha: adaptation.alpha, targets: [target])
      guard linearLayers.contains(where: one.covers) else {
        let names = Set(linearLayers.map { $0.split(separator: ".").last.map(String.init) ?? $0 })
        throw .noLayer(target: target, known: names.filter { Int($0) == nil }.sorted())
      }
    }
  }
}
