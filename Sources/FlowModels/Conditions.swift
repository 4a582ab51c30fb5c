public import FlowNN
public import FlowTensor

/// What a voice is told beside lyrics and style: pitch and phones of each latent frame, and who sings. Each is a small network
/// without biases whose last layer begins at zero, so that it changes nothing before it is trained, and says nothing of a song
/// that lacks it.
public struct ConditionSizes: Sendable, Hashable, Codable {
  /// A condition.
  public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
    /// Pitch, per frame.
    case f0
    /// Phones, per frame.
    case phones
    /// A vector for the singer, for the whole song.
    case singer

    /// Whether it is given per latent frame.
    public var isPerFrame: Bool { self != .singer }
  }

  /// The conditions, in the order of `Kind`.
  public let kinds: [Kind]
  /// Width of the layer between.
  public let hidden: Int
  /// Numbers of the singer's vector.
  public let singerWidth: Int
  /// Width of what is added: the model's `condDim`.
  public let output: Int

  enum CodingKeys: String, CodingKey {
    case kinds = "conditions"
    case hidden
    case singerWidth = "singer_width"
    case output = "cond_dim"
  }

  /// Conditions of a model.
  public init(_ kinds: Set<Kind>, hidden: Int, singerWidth: Int = 0, output: Int) {
    self.kinds = Kind.allCases.filter(kinds.contains)
    self.hidden = hidden
    self.singerWidth = singerWidth
    self.output = output
  }

  /// Numbers per frame (or per song) of a condition.
  public func width(_ kind: Kind) -> Int {
    switch kind {
    case .f0: 2 * SongConditions.slots
    case .phones: LyricTokens.phoneCount
    case .singer: singerWidth
    }
  }
}

/// The networks of the conditions, as a model's embeddings take them.
public struct Conditions {
  /// Where their parameters are, beside the model's.
  public static let scope = "conditions"

  private let sizes: ConditionSizes
  private let scope: ParameterScope

  /// The networks whose parameters are under `list`'s scope `conditions`.
  public init(_ sizes: ConditionSizes, _ list: ParameterList) {
    self.sizes = sizes
    scope = list.scope[Conditions.scope]
  }

  /// What is added to embedded latents, clean and noisy: [B, L, cond]; `nil` when no condition is per frame.
  /// - Parameter features: [B, L, width] of each condition that is.
  public func frames(_ features: [ConditionSizes.Kind: Tensor]) throws(TensorError) -> Tensor? {
    var sum: Tensor?
    for kind in sizes.kinds where kind.isPerFrame {
      guard let x = features[kind] else { continue }
      let part = scope[kind.rawValue]
      let added = try part.record { () throws(TensorError) in
        let first = try part["in"].parameter(
          "weight", [sizes.hidden, sizes.width(kind)], .fanIn(sizes.width(kind)))
        return try x.linear(first).silu().linear(
          part["out"].parameter("weight", [sizes.output, sizes.hidden], .zeros))
      }
      sum = if let known = sum { try known + added } else { added }
    }
    return sum
  }

  /// The style [B, cond] with what the singer's vectors [B, width] add to it.
  public func style(_ style: Tensor, singer: Tensor?) throws(TensorError) -> Tensor {
    guard sizes.kinds.contains(.singer), let singer else { return style }
    let part = scope["singer"]
    return try part.record { () throws(TensorError) in
      try style + singer.linear(part.parameter("weight", [sizes.output, sizes.singerWidth], .zeros))
    }
  }

  /// Declares inputs for the features of `batch` songs of `frames` latent frames, named by condition.
  func inputs(
    _ graph: Graph, batch: Int, frames: Int
  ) throws(TensorError) -> [ConditionSizes.Kind: Tensor] {
    var result: [ConditionSizes.Kind: Tensor] = [:]
    for kind in sizes.kinds {
      let shape = kind.isPerFrame ? [batch, frames, sizes.width(kind)] : [batch, sizes.width(kind)]
      result[kind] = try graph.input(Conditions.input(kind), shape)
    }
    return result
  }

  /// The name of the input for the features of a condition.
  static func input(_ kind: ConditionSizes.Kind) -> String { "condition." + kind.rawValue }
}
