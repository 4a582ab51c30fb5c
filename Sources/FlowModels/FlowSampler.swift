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
  /// Puts the rows of a block, which stand last in the cache, where they stay.
  private let keep: Program
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
    let size = config.blockSize
    let shape = [branches, config.heads, past + size, width]
    // In 16 bits where the device reads them so.
    let type = store.backend.narrowing?.type ?? .float32
    for name in FlowSampler.cacheNames(config, shape, type) {
      let zeros = try HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape).cast(to: type)
      try store.set(name, zeros)
    }
    func cache(_ graph: Graph, at place: Tensor) throws(TensorError) -> KeyValueCache {
      let tensors = try FlowSampler.cacheNames(config, shape, type).map { (name) throws(TensorError) in
        try graph.parameter(name, shape, type)
      }
      return KeyValueCache(
        (0..<config.depth).map { (keys: tensors[2 * $0], values: tensors[2 * $0 + 1]) }, place: place)
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
      let kept = try cache(graph, at: graph.constant(HostTensor([Int32(0)], [1])))
      for (layer, pair) in output.keyValues.enumerated() {
        _ = try kept.put(pair.keys, pair.values, layer: layer)
      }
      prefill = try Program(graph, outputs: [:], parameters: store)
    } else {
      prefill = nil
    }

    let moving = Graph()
    let moved = try cache(moving, at: moving.input("place", [1], .int32))
    for layer in moved.layers.indices {
      let (keys, values) = moved.layers[layer]
      _ = try moved.put(
        keys.sliced(axis: 2, from: past, count: size), values.sliced(axis: 2, from: past, count: size),
        layer: layer)
    }
    keep = try Program(moving, outputs: [:], parameters: store)

    let graph = Graph()
    let list = parameters(graph)
    let model = DiT(config, list.scope["transformer"])
    let rotaryShape = [1, size, 1, width / 2]
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
      mask: graph.input("mask", [1, 1, 1, past + size], .bool),
      cache: cache(graph, at: graph.constant(HostTensor([Int32(past)], [1]))))
    step = try Program(graph, outputs: ["velocity": output.velocity], parameters: store)
  }

  /// Its programs, by what they are for.
  package var programs: [(name: String, program: Program)] {
    (prefill.map { [("prefill", $0)] } ?? []) + [("step", step), ("keep", keep)]
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

  /// The names of all layers' keys and values, by turns.
  private static func cacheNames(_ config: DiTConfig, _ shape: [Int], _ type: DType) -> [String] {
    let size = shape.map(String.init).joined(separator: "x") + type.rawValue
    return (0..<config.depth).flatMap { ["cache.\(size).k.\($0)", "cache.\(size).v.\($0)"] }
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
    let styles = try HostTensor(
      style + [Float](repeating: 0, count: (branches - 1) * config.condDim), [branches, config.condDim])
    if let prefill {
      let ids = text + [Int32](repeating: 0, count: (branches - 1) * textCount)
      var inputs = try features(voice, 0..<0, perFrame: false)
      inputs["text"] = try HostTensor(ids, [branches, textCount])
      inputs["style"] = styles
      _ = try prefill.run(inputs)
    }
    var stream: [Float] = []
    for block in 0..<blocks {
      try progress?(block)
      let filled = textCount + block * size
      let mask = (0..<past + size).map { $0 < filled || $0 >= past }
      let positions = Array(block * size..<(block + 1) * size)
      let (cosines, sines) = Rotary.tables(positions, width: width)
      let told = try features(voice, block * size..<(block + 1) * size)
      func run(_ x: [Float], _ time: Float) throws -> [Float] {
        let result = try step.run(
          told.merging([
            "latents": HostTensor(x, [1, size, channels]), "time": HostTensor([time], [1, 1]),
            "style": styles,
            "cos": HostTensor(cosines, [1, size, 1, width / 2]),
            "sin": HostTensor(sines, [1, size, 1, width / 2]),
            "mask": HostTensor(mask, [1, 1, 1, past + size]),
          ]) { $1 })
        return result["velocity"]?.floats ?? []
      }
      var x = try noise(block)
      guard x.count == size * channels else {
        throw TensorError.input("noise of \(x.count) numbers for blocks of \(size) frames of \(channels)")
      }
      let delta = 1 / Float(steps - 1)
      for point in 0..<steps - 1 {
        let velocity = try run(x, Float(point) * delta)
        let count = size * channels
        for i in 0..<count {
          let conditional = velocity[i]
          let v = branches == 1 ? conditional : conditional + (conditional - velocity[count + i]) * guidance
          x[i] += delta * v
        }
      }
      _ = try run(x, 1)
      _ = try keep.run(["place": HostTensor([Int32(filled)], [1])])
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
}
