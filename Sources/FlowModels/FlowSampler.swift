public import FlowNN
public import FlowTensor

/// Block-wise sampling with keys and values kept (spec 3). Conditional and null branch run as one batch of two.
///
/// Differences from the reference, each on purpose: one step more than grid points minus one is never taken; a song that
/// is all end frames gives an empty result; `keepLastFrame` mends the reference's loss of one real frame at the end.
public final class FlowSampler {
  private let config: DiTConfig
  private let conditions: ConditionSizes?
  private let store: ParameterStore
  private let guidance: Float
  private let branches: Int
  private let textCount: Int
  private let maxBlocks: Int
  private let prefill: Program?
  private let step: Program
  private var width: Int { config.dim / config.heads }
  private var past: Int { textCount + maxBlocks * config.blockSize }

  /// The mean squared distance from all ones below which a frame ends the song (spec 3.8).
  public static let endThreshold: Float = 0.05

  /// Records the programs.
  /// - Parameters:
  ///   - textCount: tokens of every prompt.
  ///   - maxBlocks: the longest result in blocks.
  ///   - guidance: strength g of v = cond + g (cond - null); 0 runs no null branch.
  ///   - adaptation: which layers have low-rank parameters in `store`.
  ///   - conditions: what `store` has networks for beside the model; the null branch goes without.
  /// - Throws: `TensorError`.
  public init(
    _ config: DiTConfig, store: ParameterStore, textCount: Int, maxBlocks: Int, guidance: Float,
    adaptation: LowRank? = nil, conditions: ConditionSizes? = nil
  ) throws {
    self.config = config
    self.conditions = conditions
    self.store = store
    self.guidance = guidance
    self.textCount = textCount
    self.maxBlocks = maxBlocks
    branches = guidance < 1e-5 ? 1 : 2
    try config.check()
    let width = config.dim / config.heads
    let past = textCount + maxBlocks * config.blockSize

    func parameters(_ graph: Graph) -> ParameterList {
      ParameterList(graph, adaptation: adaptation.map { Adaptation($0) }, types: store.dtype)
    }
    if textCount > 0 {
      let graph = Graph()
      let list = parameters(graph)
      let model = DiT(config, list.scope["transformer"])
      let output = try model(
        model.embedText(graph.input("text", [branches, textCount], .int32)),
        time: graph.constant([Float](repeating: -1, count: branches * textCount), [branches, textCount]),
        style: FlowSampler.style(config, conditions, list, branches),
        rotary: Rotary(graph, positions: Array(0..<textCount), width: width),
        mask: graph.constant(HostTensor([true], [1, 1, 1, 1])))
      prefill = try Program(graph, outputs: FlowSampler.named(output.keyValues), parameters: store)
    } else {
      prefill = nil
    }

    for layer in 0..<config.depth {
      for kind in ["k", "v"] {
        let shape = [branches, config.heads, past, width]
        let zeros = try HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape)
        try store.set(FlowSampler.cacheName(kind, layer, shape), zeros)
      }
    }
    let size = config.blockSize
    let graph = Graph()
    let list = parameters(graph)
    let model = DiT(config, list.scope["transformer"])
    let shape = [branches, config.heads, past, width]
    let cache = try (0..<config.depth).map {
      (

        keys: try graph.parameter(FlowSampler.cacheName("k", $0, shape), shape),
        values: try graph.parameter(FlowSampler.cacheName("v", $0, shape), shape)
      )
    }
    let rotaryShape = [1, 1, size, width]
    let latents = try graph.input("latents", [1, size, config.melDim]).broadcast(to: [
      branches, size, config.melDim,
    ])
    var embedded = try model.embedLatents(latents)
    if let conditions {
      let networks = Conditions(conditions, list)
      let features = try networks.inputs(graph, batch: branches, frames: size)
      if let addition = try networks.frames(features) { embedded = try embedded + addition }
    }
    let output = try model(
      embedded, time: graph.input("time", [1, 1]).broadcast(to: [branches, size]),
      style: FlowSampler.style(config, conditions, list, branches),
      rotary: Rotary(cos: graph.input("cos", rotaryShape), sin: graph.input("sin", rotaryShape)),
      mask: graph.input("mask", [1, 1, 1, past + size], .bool), past: cache)
    var outputs = FlowSampler.named(output.keyValues)
    outputs["velocity"] = output.velocity
    step = try Program(graph, outputs: outputs, parameters: store)
  }

  /// Its programs, by what they are for.
  package var programs: [(name: String, program: Program)] {
    (prefill.map { [("prefill", $0)] } ?? []) + [("step", step)]
  }

  /// The style of both branches, with what the singer adds.
  private static func style(
    _ config: DiTConfig, _ conditions: ConditionSizes?, _ list: ParameterList, _ branches: Int
  ) throws(TensorError) -> Tensor {
    let style = try list.graph.input("style", [branches, config.condDim])
    guard let conditions, conditions.kinds.contains(.singer) else { return style }
    let singer = try list.graph.input(
      Conditions.input(.singer), [branches, conditions.singerWidth])
    return try Conditions(conditions, list).style(style, singer: singer)
  }

  /// The features of the conditions for the frames `range`; zeros in the null branch.
  private func features(
    _ song: SongConditions, _ range: Range<Int>, perFrame: Bool = true
  ) throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    guard let conditions else { return result }
    for kind in conditions.kinds where perFrame || !kind.isPerFrame {
      let width = conditions.width(kind)
      let values = song.features(kind, range, width: width)
      let null = [Float](repeating: 0, count: (branches - 1) * values.count)
      result[Conditions.input(kind)] = try HostTensor(
        values + null, kind.isPerFrame ? [branches, range.count, width] : [branches, width])
    }
    return result
  }

  private static func cacheName(_ kind: String, _ layer: Int, _ shape: [Int]) -> String {
    "cache.\(shape.map(String.init).joined(separator: "x")).\(kind).\(layer)"
  }

  private static func named(_ keyValues: [(keys: Tensor, values: Tensor)]) -> [String: Tensor] {
    var outputs: [String: Tensor] = [:]
    for (layer, pair) in keyValues.enumerated() {
      outputs["k.\(layer)"] = pair.keys
      outputs["v.\(layer)"] = pair.values
    }
    return outputs
  }

  /// Samples a song.
  /// - Parameters:
  ///   - text: token ids, as many as the sampler was made for.
  ///   - style: the style vector, cond wide.
  ///   - blocks: blocks to make, if the song doesn't end before.
  ///   - steps: grid points of the time; steps - 1 Euler updates (spec 3.5). At least 2.
  ///   - keepLastFrame: keeps the frame before the end frames, which the reference drops.
  ///   - voice: what the conditions are given.
  ///   - noise: the starting noise of each block, [blockSize, channels].
  /// - Returns: latents [1, frames, channels].
  /// - Throws: `TensorError`, and what `noise` or `progress` throw.
  public func sample(
    text: [Int32], style: [Float], blocks: Int, steps: Int, keepLastFrame: Bool,
    voice: SongConditions = SongConditions(),
    progress: ((Int) throws -> Void)? = nil, noise: (Int) throws -> [Float]
  ) throws -> HostTensor {
    guard blocks <= maxBlocks, text.count == textCount, style.count == config.condDim, steps >= 2 else {
      throw TensorError.input(
        "\(text.count) tokens, a style of \(style.count) and \(blocks) blocks in \(steps) steps are not for a sampler"
          + " of \(textCount) tokens, a style of \(config.condDim), at most \(maxBlocks) blocks, and 2 steps or more"
      )
    }
    if let conditions, let why = voice.misfit(conditions) { throw TensorError.input("the song has \(why)") }
    let (size, channels) = (config.blockSize, config.melDim)
    var cache: [String: [Float]] = [:]
    for layer in 0..<config.depth {
      for kind in ["k", "v"] {
        cache["\(kind).\(layer)"] = [Float](repeating: 0, count: branches * config.heads * past * width)
      }
    }
    let styles = try HostTensor(
      style + [Float](repeating: 0, count: (branches - 1) * config.condDim), [branches, config.condDim])
    if let prefill {
      let ids = text + [Int32](repeating: 0, count: (branches - 1) * textCount)
      var inputs = try features(voice, 0..<0, perFrame: false)
      inputs["text"] = try HostTensor(ids, [branches, textCount])
      inputs["style"] = styles
      let result = try prefill.run(inputs)
      commit(result, count: textCount, at: 0, into: &cache)
    }
    var stream: [Float] = []
    for block in 0..<blocks {
      try progress?(block)
      try upload(cache)
      let filled = textCount + block * size
      let mask = (0..<past + size).map { $0 < filled || $0 >= past }
      let positions = Array(block * size..<(block + 1) * size)
      let (cosines, sines) = Rotary.tables(positions, width: width)
      let told = try features(voice, block * size..<(block + 1) * size)
      func run(_ x: [Float], _ time: Float) throws -> [String: HostTensor] {
        try step.run(
          told.merging([
            "latents": HostTensor(x, [1, size, channels]), "time": HostTensor([time], [1, 1]),
            "style": styles,
            "cos": HostTensor(cosines, [1, 1, size, width]), "sin": HostTensor(sines, [1, 1, size, width]),
            "mask": HostTensor(mask, [1, 1, 1, past + size]),
          ]) { $1 })
      }
      var x = try noise(block)
      guard x.count == size * channels else {
        throw TensorError.input("noise of \(x.count) numbers for blocks of \(size) frames of \(channels)")
      }
      let delta = 1 / Float(steps - 1)
      for point in 0..<steps - 1 {
        let velocity = try run(x, Float(point) * delta)["velocity"]?.floats ?? []
        let count = size * channels
        for i in 0..<count {
          let conditional = velocity[i]
          let v = branches == 1 ? conditional : conditional + (conditional - velocity[count + i]) * guidance
          x[i] += delta * v
        }
      }
      commit(try run(x, 1), count: size, at: filled, into: &cache)
      stream += x
      if let length = endLength(stream, keepLastFrame: keepLastFrame) {
        return try HostTensor(Array(stream.prefix(length * channels)), [1, length, channels])
      }
    }
    return try HostTensor(stream, [1, stream.count / channels, channels])
  }

  /// The frames to keep when the last frame ends the song; `nil` when it goes on.
  private func endLength(_ stream: [Float], keepLastFrame: Bool) -> Int? {
    let channels = config.melDim
    func ends(_ frame: Int) -> Bool {
      let values = stream[frame * channels..<(frame + 1) * channels]
      return values.reduce(0) { $0 + ($1 - 1) * ($1 - 1) } / Float(channels) <= FlowSampler.endThreshold
    }
    var frame = stream.count / channels - 1
    guard frame >= 0, ends(frame) else { return nil }
    while frame >= 0, ends(frame) { frame -= 1 }
    return keepLastFrame ? frame + 1 : max(0, frame)
  }

  private func commit(
    _ result: [String: HostTensor], count: Int, at place: Int, into cache: inout [String: [Float]]
  ) {
    for (name, value) in result where name != "velocity" {
      let values = value.floats
      for row in 0..<branches * config.heads {
        let from = row * count * width
        let to = (row * past + place) * width
        cache[name]?.replaceSubrange(to..<to + count * width, with: values[from..<from + count * width])
      }
    }
  }

  private func upload(_ cache: [String: [Float]]) throws {
    let shape = [branches, config.heads, past, width]
    for (name, values) in cache {
      let parts = name.split(separator: ".")
      guard let layer = Int(parts[1]) else { continue }
      try store.set(FlowSampler.cacheName(String(parts[0]), layer, shape), HostTensor(values, shape))
    }
  }
}
