import FlowTensor

/// The sizes of DiffRhythm 2's transformer, as its `model.json` names them (spec 0.1).
public struct DiTConfig: Sendable, Hashable, Codable {
  /// Hidden width.
  public var dim: Int
  /// Layers.
  public var depth: Int
  /// Attention heads.
  public var heads: Int
  /// Inner width of the MLP over `dim`.
  public var ffMult: Int
  /// Latent channels.
  public var melDim: Int
  /// Rows of the token table, less one.
  public var textNumEmbeds: Int
  /// Width of tokens, style and time; 512 in the release, where it is not in the file.
  public var condDim: Int
  /// Latent frames of a block.
  public var blockSize: Int
  /// The layer whose output the REPA heads see, from 1.
  public var repaDepth: Int
  /// Widths of the REPA heads; the heads are in the published file and unused when sampling.
  public var repaDims: [Int]
  /// Joins the input of the layers to their output (off in the release).
  public var longSkipConnection: Bool

  enum CodingKeys: String, CodingKey {
    case dim, depth, heads
    case ffMult = "ff_mult"
    case melDim = "mel_dim"
    case textNumEmbeds = "text_num_embeds"
    case condDim = "cond_dim"
    case blockSize = "block_size"
    case repaDepth = "repa_depth"
    case repaDims = "repa_dims"
    case longSkipConnection = "long_skip_connection"
  }

  /// Reads `model.json`; what the release leaves out has the release's value.
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    dim = try c.decode(Int.self, forKey: .dim)
    depth = try c.decode(Int.self, forKey: .depth)
    heads = try c.decode(Int.self, forKey: .heads)
    ffMult = try c.decodeIfPresent(Int.self, forKey: .ffMult) ?? 4
    melDim = try c.decode(Int.self, forKey: .melDim)
    textNumEmbeds = try c.decodeIfPresent(Int.self, forKey: .textNumEmbeds) ?? 1000
    condDim = try c.decodeIfPresent(Int.self, forKey: .condDim) ?? 512
    blockSize = try c.decodeIfPresent(Int.self, forKey: .blockSize) ?? 10
    repaDepth = try c.decodeIfPresent(Int.self, forKey: .repaDepth) ?? 0
    repaDims = try c.decodeIfPresent([Int].self, forKey: .repaDims) ?? []
    longSkipConnection = try c.decodeIfPresent(Bool.self, forKey: .longSkipConnection) ?? false
  }

  /// A transformer of these sizes, for the release's tokens and 64 latent channels unless said.
  public init(
    dim: Int, depth: Int, heads: Int, ffMult: Int = 4, melDim: Int = 64, textNumEmbeds: Int = 1000,
    condDim: Int = 512, blockSize: Int = 10
  ) {
    self.dim = dim
    self.depth = depth
    self.heads = heads
    self.ffMult = ffMult
    self.melDim = melDim
    self.textNumEmbeds = textNumEmbeds
    self.condDim = condDim
    self.blockSize = blockSize
    repaDepth = 0
    repaDims = []
    longSkipConnection = false
  }

  /// Throws what is wrong with sizes that no transformer can have.
  func check() throws(TensorError) {
    let sizes = [dim, heads, ffMult, melDim, textNumEmbeds, condDim, blockSize]
    guard sizes.allSatisfy({ (1..<1 << 24).contains($0) }), depth >= 0, dim % (2 * heads) == 0 else {
      throw .argument(
        op: "transformer",
        problem: "its sizes must be positive and its width (\(dim)) a multiple of twice its heads (\(heads))")
    }
  }

  /// The preset that the demo trains: 0.9 million parameters. Its table has the rows that tokens have.
  public static let tiny = DiTConfig(
    dim: 128, depth: 4, heads: 4, ffMult: 2, textNumEmbeds: 520, condDim: 128)
}
