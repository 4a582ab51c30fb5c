import FlowTensor

extension Adapter {
  /// Number of values.
  public var parameterCount: Int { weights.values.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  /// One adapter that changes a base as all `parts` together would, each times its strength: their A's above one another,
  /// their B's side by side, with each part's scale in its B. A layer that a part lacks gets zeros from it.
  /// - Throws: `AdapterError` when parts say they are of different bases, or a layer's shapes differ; `TensorError`.
  public static func stacked(_ parts: [(adapter: Adapter, strength: Double)]) throws -> Adapter {
    let bases = Set(parts.compactMap(\.adapter.base))
    if bases.count > 1 { throw AdapterError.otherBase(expected: bases.min() ?? "", found: bases.max() ?? "") }
    let rank = parts.reduce(0) { $0 + $1.adapter.settings.rank }
    let layers = Set(parts.flatMap { $0.adapter.weights.keys.compactMap(LowRank.module) })
    var weights: [String: HostTensor] = [:]
    for layer in layers.sorted() {
      let (down, up) = (layer + LowRank.down, layer + LowRank.up)
      func width(_ key: String, _ axis: Int) throws(AdapterError) -> Int {
        var width: Int?
        for part in parts {
          guard let shape = part.adapter.weights[key]?.shape else { continue }
          var expected = shape
          expected[axis] = width ?? shape[axis]
          expected[1 - axis] = part.adapter.settings.rank
          guard shape == expected else { throw .shape(key: key, expected: expected, found: shape) }
          width = shape[axis]
        }
        guard let width else { throw .missing(keys: [key]) }
        return width
      }
      let (input, output) = (try width(down, 1), try width(up, 0))
      var (a, b) = ([Float](), [Float](repeating: 0, count: output * rank))
      var column = 0
      for part in parts {
        let (r, scale) = (part.adapter.settings.rank, Float(part.adapter.settings.scale * part.strength))
        a += part.adapter.weights[down]?.floats ?? [Float](repeating: 0, count: r * input)
        if let values = part.adapter.weights[up]?.floats {
          for row in 0..<output {
            for i in 0..<r { b[row * rank + column + i] = values[row * r + i] * scale }
          }
        }
        column += r
      }
      weights[down] = try HostTensor(a, [rank, input])
      weights[up] = try HostTensor(b, [output, rank])
    }
    let settings = LowRank(rank: rank, alpha: Double(rank), targets: layers.sorted())
    return Adapter(settings, base: bases.first, weights: weights)
  }
}
