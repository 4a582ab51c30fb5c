public import FlowNN
public import FlowTensor

/// What is to be sampled, and how (spec 3).
public struct SongRequest: Sendable {
  /// Token ids; may be empty.
  public var tokens: [Int32]
  /// The style vector, `condDim` wide; empty is the null style, all zeros.
  public var style: [Float]
  /// Latent frames asked for; whole blocks are made.
  public var frames: Int
  /// Points of the time grid, at least 2.
  public var steps = 16
  /// Strength g of v = cond + g (cond - null).
  public var guidance: Float = 2
  /// Pitch, phones and singer, for a model with conditions.
  public var voice = SongConditions()
  /// Keeps the frame before the end frames, which the reference drops.
  public var keepsLastFrame = true

  /// A song of `frames` latent frames.
  public init(tokens: [Int32], style: [Float], frames: Int) {
    self.tokens = tokens
    self.style = style
    self.frames = frames
  }
}

/// Why a song can't be sampled. Each text says what was found and what was expected.
public enum SongError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The request doesn't fit the model.
  case request(String)
  /// The model gave something else than numbers.
  case notFinite(block: Int)
  /// The model ended the song in its first frame.
  case empty

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .request(let why): why
    case .notFinite(let block):
      "the model's latents are not numbers in block \(block + 1): its weights are damaged, or from a failed training"
    case .empty: "the model ended the song before it began"
    }
  }
}

/// A transformer ready to sample: weights that were found to be those of its sizes, and adapters beside them, which change
/// no byte of the weights.
public struct SongModel {
  /// The sizes.
  public let config: DiTConfig
  private let store: ParameterStore
  private let adaptation: LowRank?
  private let conditions: ConditionSizes?

  /// Checks the weights in `store` and puts the adapters beside them.
  /// - Parameters:
  ///   - adapters: what changes the base, all together, each times its strength.
  ///   - conditions: networks for pitch, phones and singer.
  ///   - name: what the base is called; an adapter that says it was trained on another base of that kind is refused.
  /// - Throws: `ParameterError` when the weights are not of these sizes; `AdapterError` when an adapter doesn't fit; `TensorError`.
  public init(
    _ config: DiTConfig, store: ParameterStore, adapters: [(adapter: Adapter, strength: Double)] = [],
    conditions: ConditionAdapter? = nil, named name: (Adapter) -> String? = { _ in nil }
  ) throws {
    self.config = config
    self.store = store
    let shapes = Dictionary(uniqueKeysWithValues: store.names.map { ($0, store.shape($0) ?? []) })
    let list = try SongModel.parameters(config)
    // No weights at all are taken for a model that is to be drawn; here they are missing.
    guard !shapes.isEmpty else { throw ParameterError.missing(list.declarations.map(\.name).sorted()) }
    try list.accept(shapes)
    let fitted = try adapters.map {
      (adapter: try $0.adapter.fitted(to: shapes, named: name($0.adapter)), strength: $0.strength)
    }
    let one = fitted.count == 1 && fitted[0].strength == 1
    let whole = one ? fitted[0].adapter : fitted.isEmpty ? nil : try Adapter.stacked(fitted)
    for (key, value) in whole?.weights ?? [:] { try store.set(key, value) }
    adaptation = whole?.settings
    try conditions?.check(config, named: nil)
    for (key, value) in conditions?.weights ?? [:] { try store.set(key, value) }
    self.conditions = conditions?.sizes
  }

  /// The parameters that sampling needs: those of tokens, latents and one pass.
  private static func parameters(_ config: DiTConfig) throws(TensorError) -> ParameterList {
    let graph = Graph()
    let list = ParameterList(graph)
    let model = DiT(config, list.scope["transformer"])
    _ = try model.embedText(graph.input("text", [1, 1], .int32))
    let x = try model.embedLatents(graph.input("latents", [1, 1, config.melDim]))
    _ = try model(
      x, time: graph.input("time", [1, 1]), style: graph.input("style", [1, config.condDim]),
      rotary: Rotary(graph, positions: [0], width: config.dim / max(1, config.heads)),
      mask: graph.constant(HostTensor([true], [1, 1, 1, 1])))
    return list
  }

  /// Whole blocks of at least so many frames.
  public func blocks(frames: Int) -> Int { (max(1, frames) + config.blockSize - 1) / config.blockSize }

  /// Samples a song: latents [1, frames, channels].
  /// - Parameters:
  ///   - progress: called before each block with its number and how many there are.
  ///   - noise: the starting noise of a block, [block size, channels].
  /// - Throws: `SongError`, `TensorError`, and what the closures throw.
  public func sample(
    _ request: SongRequest, progress: ((Int, Int) throws -> Void)? = nil,
    noise: (Int) throws -> [Float]
  ) throws -> HostTensor {
    let blocks = blocks(frames: request.frames)
    try check(request)
    let null = [Float](repeating: 0, count: config.condDim)
    let sampler = try FlowSampler(
      config, store: store, textCount: request.tokens.count, maxBlocks: blocks, guidance: request.guidance,
      adaptation: adaptation, conditions: conditions)
    let latents = try sampler.sample(
      text: request.tokens, style: request.style.isEmpty ? null : request.style, blocks: blocks,
      steps: request.steps, keepLastFrame: request.keepsLastFrame, voice: request.voice,
      progress: { try progress?($0, blocks) },
      noise: noise)
    let values = latents.floats
    if let bad = values.firstIndex(where: { !$0.isFinite }) {
      throw SongError.notFinite(block: bad / (config.blockSize * config.melDim))
    }
    guard !values.isEmpty else { throw SongError.empty }
    return latents
  }

  private func check(_ request: SongRequest) throws(SongError) {
    if let place = request.tokens.firstIndex(where: { $0 < 0 || $0 > config.textNumEmbeds }) {
      throw .request(
        "token \(place + 1) is \(request.tokens[place]); the model knows 0 to \(config.textNumEmbeds)")
    }
    guard request.style.isEmpty || request.style.count == config.condDim else {
      throw .request("the style has \(request.style.count) numbers, the model wants \(config.condDim)")
    }
    if let place = request.style.firstIndex(where: { !$0.isFinite }) {
      throw .request("number \(place + 1) of the style is \(request.style[place])")
    }
    if let conditions, let why = request.voice.misfit(conditions) { throw .request("the song has \(why)") }
    guard request.steps >= 2 else {
      throw .request("\(request.steps) grid points give no step; at least 2 are needed")
    }
    guard request.guidance.isFinite, request.guidance >= 0 else {
      throw .request("a guidance of \(request.guidance) is none; give 0 or more")
    }
  }
}
