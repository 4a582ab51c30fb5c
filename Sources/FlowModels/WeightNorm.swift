import FlowNN
public import FlowTensor

extension Vocoder {
  /// `store`, or if its weight norm was folded, one in which each weight is a pair again: v is the weight, g the norm of its rows.
  /// - Throws: `TensorError`.
  public static func unfolded(_ store: ParameterStore) throws -> ParameterStore {
    guard !store.names.contains(where: { $0.hasSuffix(".weight_g") }) else { return store }
    let result = ParameterStore(store.backend)
    for name in store.names {
      let tensor = try store.get(name)
      guard name.hasSuffix(".weight"), tensor.shape.count > 1, let rows = tensor.shape.first, rows > 0 else {
        try result.set(name, tensor)
        continue
      }
      var values = tensor.floats
      let width = values.count / rows
      var norms = [Float](repeating: 0, count: rows)
      for row in 0..<rows where width > 0 {
        let place = row * width..<(row + 1) * width
        norms[row] = Float(values[place].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot())
        // A row of zeros has no direction; any will do.
        if norms[row] == 0 { values[row * width] = 1 }
      }
      try result.set(name + "_v", HostTensor(values, tensor.shape))
      try result.set(name + "_g", HostTensor(norms, [rows] + tensor.shape.dropFirst().map { _ in 1 }))
    }
    return result
  }

  /// Throws unless the weights in `store`, without a prefix, are those of a generator of these sizes.
  /// - Throws: `ParameterError`, `TensorError`.
  public static func accept(_ store: ParameterStore, _ config: VocoderConfig) throws {
    let list = ParameterList(Graph())
    _ = try Vocoder(config, list.scope)(list.graph.input("latents", [1, config.inChannels, 2]))
    let filters = try filterBuffers(config)
    let given = store.names.filter { filters[$0] == nil }
    guard !given.isEmpty else { throw ParameterError.missing(list.declarations.map(\.name).sorted()) }
    try list.accept(Dictionary(uniqueKeysWithValues: given.map { ($0, store.shape($0) ?? []) }))
  }

  /// `weights` with each pair `weight_g`, `weight_v` folded into the `weight`, float32, that it stands for (spec 5.4);
  /// others stay.
  /// - Throws: `TensorError` when a half of a pair is missing or of another shape, or memory runs out.
  public static func folded(
    _ weights: [String: HostTensor], on backend: any Backend
  ) throws -> [String: HostTensor] {
    var result = weights.filter { !$0.key.hasSuffix(".weight_g") && !$0.key.hasSuffix(".weight_v") }
    let paths = Set(weights.keys.filter { weights[$0] != nil && result[$0] == nil }.map { $0.dropLast(2) })
    for path in paths.sorted() {
      guard let g = weights[path + "_g"]?.cast(to: .float32),
        let v = weights[path + "_v"]?.cast(to: .float32)
      else {
        throw TensorError.parameter("'\(path)_g' and '\(path)_v' belong together, and only one is there")
      }
      let graph = Graph()
      let weight = try graph.scope(String(path)) {
        try graph.input("v", v.shape).weighted(byNorm: graph.input("g", g.shape))
      }
      let program = try Program(
        graph, outputs: ["weight": weight], parameters: ParameterStore(backend))
      result[String(path)] = try program.run(["v": v, "g": g])["weight"]
    }
    return result
  }
}

extension Vocoder {
  /// `weights` as the generator declares them: what `folded` folded, a `weight` of three axes, is the pair `weight_g`, the norm
  /// of each row, and `weight_v` again; others stay.
  /// - Throws: `TensorError` when memory runs out.
  public static func unfolded(_ weights: [String: HostTensor]) throws(TensorError) -> [String: HostTensor] {
    var result = weights
    for (name, weight) in weights where name.hasSuffix(".weight") && weight.shape.count == 3 {
      let (rows, values) = (weight.shape[0], weight.floats)
      let width = rows > 0 ? values.count / rows : 0
      let norms = (0..<rows).map { row in
        Float(
          values[row * width..<(row + 1) * width].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot())
      }
      result[name] = nil
      // A row of zeros has no direction; any will do, as its norm is 0.
      let directions = values.indices.map { norms[$0 / width] == 0 ? 1 : values[$0] }
      result[name + "_v"] = try HostTensor(directions, weight.shape)
      result[name + "_g"] = try HostTensor(norms, [rows, 1, 1])
    }
    return result
  }
}

extension Tensor {
  /// g · v / ‖v‖, the norm over all but the first axis (Salimans & Kingma 2016): g is [n, 1, ...] for v [n, ...].
  func weighted(byNorm g: Tensor) throws(TensorError) -> Tensor {
    guard rank > 1, g.shape == [shape[0]] + shape.dropFirst().map({ _ in 1 }) else {
      throw .shape(
        op: "weight norm", shapes: [shape, g.shape], expected: "g has a number for each row of v",
        path: graph.path)
    }
    return try self * (g / square().sum(Array(1..<rank)).sqrt())
  }
}
