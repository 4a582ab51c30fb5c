public import FlowNN
public import FlowTensor
import Foundation

/// DiffRhythm 2's transformer: a Llama-type stack over tokens and latent frames with a time per token (spec 2). Parameter
/// names are the published ones.
public struct DiT {
  /// The sizes.
  public let config: DiTConfig
  private let scope: ParameterScope
  private let recomputes: Bool

  /// The transformer whose parameters are under `scope` (the release's prefix is `transformer`).
  /// - Parameter recomputes: computes each layer again for its gradients instead of keeping what it computed.
  public init(_ config: DiTConfig, _ scope: ParameterScope, recomputes: Bool = false) {
    self.config = config
    self.scope = scope
    self.recomputes = recomputes
  }

  /// What the layers hand on.
  public struct Output {
    /// The velocity, [B, N, latent channels].
    public let velocity: Tensor
    /// Keys and values of each layer after norm and rotation, [B, H, N, head width].
    public let keyValues: [(keys: Tensor, values: Tensor)]
    /// Intermediate values by the names of the golden files.
    public let taps: [String: Tensor]
  }

  /// Token ids int32 [B, N] -> [B, N, cond].
  public func embedText(_ ids: Tensor) throws(TensorError) -> Tensor {
    let part = scope["text_embed"]["text_embed"]
    return try part.record { () throws(TensorError) in
      try part.parameter("weight", [config.textNumEmbeds + 1, config.condDim], .normal(0.5)).rows(at: ids)
    }
  }

  /// Latents [B, N, channels] -> [B, N, cond].
  public func embedLatents(_ latents: Tensor) throws(TensorError) -> Tensor {
    let first = try Linear(scope["latent_embed"][0], config.melDim, config.condDim)
    return try Linear(scope["latent_embed"][1], config.condDim, config.condDim)(first(latents))
  }

  /// The time embedding (spec 2.1): times [B, N] -> [B, N, cond].
  public func embedTime(_ time: Tensor) throws(TensorError) -> Tensor {
    let half = 128
    let frequencies = (0..<half).map { expf(Float($0) * Float(-log(10000.0) / Double(half - 1))) }
    let part = scope["time_embed"]
    return try part.record { () throws(TensorError) in
      let angles = try (time * 1000).reshaped(time.shape + [1]) * time.graph.constant(frequencies, [half])
      let wave = try Tensor.concatenated([angles.sin(), angles.cos()], axis: 2)
      let hidden = try Linear(part["time_mlp"][0], 2 * half, config.condDim)(wave).silu()
      return try Linear(part["time_mlp"][2], config.condDim, config.condDim)(hidden)
    }
  }

  /// The forward pass.
  /// - Parameters:
  ///   - x: embedded tokens and latents, [B, N, cond].
  ///   - time: a time per token, [B, N]: -1 text, 1 clean, t noisy.
  ///   - style: [B, cond].
  ///   - rotary: the positions of the N tokens.
  ///   - mask: bool, true where a query may attend, broadcastable to [B, 1, N, N], or to [B, 1, N, rows of the cache].
  ///   - cache: what keys and values are kept in, per layer, and where those of this pass go.
  public func callAsFunction(
    _ x: Tensor, time: Tensor, style: Tensor, rotary: Rotary, mask: Tensor,
    cache: KeyValueCache? = nil
  ) throws(TensorError) -> Output {
    try config.check()
    guard x.rank == 3, x.shape[2] == config.condDim else {
      throw .shape(
        op: "transformer", shapes: [x.shape], expected: "tokens are [B, N, \(config.condDim)]",
        path: scope.prefix)
    }
    return try scope.record { () throws(TensorError) in
      try forward(x, time: time, style: style, rotary: rotary, mask: mask, cache: cache)
    }
  }

  private func forward(
    _ x: Tensor, time: Tensor, style: Tensor, rotary: Rotary, mask: Tensor,
    cache: KeyValueCache?
  ) throws(TensorError) -> Output {
    var taps: [String: Tensor] = [:]
    let c = try embedTime(time)
    taps["time_embed"] = c
    let entry = try enter(x, style: style, time: c)
    taps["input_embed"] = entry

    var h = entry
    var keyValues: [(keys: Tensor, values: Tensor)] = []
    for layer in 0..<config.depth {
      let block = scope["transformer_blocks"][layer]
      func layerOutput() throws(TensorError) -> Tensor {
        let a = try RMSNorm(block["input_layernorm"], config.dim)(h)
        let (mixed, pair) = try attend(block["self_attn"], a, rotary, mask, cache, layer)
        keyValues.append(pair)
        let middle = try h + mixed
        let m = try RMSNorm(block["post_attention_layernorm"], config.dim)(middle)
        return try middle + feedForward(block["mlp"], m)
      }
      h = try block.record { () throws(TensorError) in
        try recomputes ? scope.graph.recomputing(layerOutput) : layerOutput()
      }
      taps["block.\(layer)"] = h
      if layer == config.repaDepth - 1 { taps["repa"] = h }
    }
    if config.longSkipConnection {
      let joint = try Tensor.concatenated([h, entry], axis: 2)
      h = try Linear(scope["long_skip_connection"], 2 * config.dim, config.dim, bias: false)(joint)
    }
    let out = try scope["norm_out"].record { () throws(TensorError) in
      let modulation = try Linear(scope["norm_out"]["linear"], config.condDim, 2 * config.dim)(c.silu())
      let scale = try modulation.sliced(axis: 2, from: 0, count: config.dim)
      let shift = try modulation.sliced(axis: 2, from: config.dim, count: config.dim)
      return try h.layerNorm() * (scale + 1) + shift
    }
    return Output(
      velocity: try Linear(scope["proj_out"], config.dim, config.melDim)(out), keyValues: keyValues,
      taps: taps)
  }

  /// Tokens, style and time joined and brought to the layers' width (spec 2.3).
  private func enter(_ x: Tensor, style: Tensor, time: Tensor) throws(TensorError) -> Tensor {
    let part = scope["input_embed"]
    return try part.record { () throws(TensorError) in
      let joined = try x + style.reshaped([x.shape[0], 1, config.condDim]) + time
      let projected = try Linear(part["proj"], config.condDim, config.condDim)(joined) + x
      return try Linear(part["proj_2"], config.condDim, config.dim)(projected)
    }
  }

  /// Self-attention of a layer (spec 2.4 to 2.6), and its keys and values without those of the cache.
  private func attend(
    _ scope: ParameterScope, _ x: Tensor, _ rotary: Rotary, _ mask: Tensor,
    _ cache: KeyValueCache?, _ layer: Int
  ) throws(TensorError) -> (Tensor, (keys: Tensor, values: Tensor)) {
    let (batch, count, dim, heads) = (x.shape[0], x.shape[1], config.dim, config.heads)
    let width = dim / heads
    func split(_ name: String) throws(TensorError) -> Tensor {
      try Linear(scope[name], dim, dim, bias: false)(x).reshaped([batch, count, heads, width])
    }
    func normed(_ name: String, _ norm: String) throws(TensorError) -> Tensor {
      try rotary(RMSNorm(scope[norm], width)(split(name))).permuted([0, 2, 1, 3])
    }
    return try scope.record { () throws(TensorError) in
      let queries = try normed("q_proj", "q_norm")
      var keys = try normed("k_proj", "k_norm")
      var values = try split("v_proj").permuted([0, 2, 1, 3])
      let new = (keys: keys, values: values)
      if let cache { (keys, values) = try cache.put(keys, values, layer: layer) }
      let mixed = try queries.attention(keys: keys, values: values, mask: mask).permuted([0, 2, 1, 3])
      return (try Linear(scope["o_proj"], dim, dim, bias: false)(mixed.reshaped([batch, count, dim])), new)
    }
  }

  /// The gated MLP of a layer (spec 2.7).
  private func feedForward(_ scope: ParameterScope, _ x: Tensor) throws(TensorError) -> Tensor {
    let (dim, inner) = (config.dim, config.dim * config.ffMult)
    return try scope.record { () throws(TensorError) in
      let gate = try Linear(scope["gate_proj"], dim, inner, bias: false)(x).silu()
      let up = try Linear(scope["up_proj"], dim, inner, bias: false)(x)
      return try Linear(scope["down_proj"], inner, dim, bias: false)(gate * up)
    }
  }

  /// Projects a hidden state [B, N, dim] by the REPA head number `index` (spec 2.9).
  public func projectREPA(_ hidden: Tensor, head index: Int) throws(TensorError) -> Tensor {
    guard config.repaDims.indices.contains(index) else {
      throw .argument(op: "projectors", problem: "there is no head \(index)", path: scope.prefix)
    }
    let head = scope["projectors"][index]
    let first = try Linear(head[0], config.dim, 2 * config.dim)(hidden).silu()
    let second = try Linear(head[2], 2 * config.dim, 2 * config.dim)(first).silu()
    return try Linear(head[4], 2 * config.dim, config.repaDims[index])(second)
  }
}
