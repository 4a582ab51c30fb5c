/// softmax(scale q kᵀ where mask) v, heads apart. The score matrix is never kept: rows are taken in tiles, and the
/// gradient computes them again from the logarithm of each row's sum (Dao et al. 2022).
///
/// Inputs: q [B, H, N, D], k and v [B, H, M, D], mask [B or 1, H or 1, N, M] (bool: may attend). Outputs:
/// [B, H, N, D], and the logarithms [B, H, N]. A row without any key gives 0; a key whose score is below
/// -1e30 counts as masked.
package struct Attention: Op {
  /// Multiplies the scores.
  package let scale: Float
  /// The inputs and outputs that lie in memory as [B, N, H, D], for a backend that plans so.
  package var turned = TurnedValues()
  package var name: String { "attention" }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    try Attention.type(self, inputs)
  }
  static func type(_ op: any Op, _ inputs: [DType]) throws(TensorError) -> DType {
    for (index, type) in inputs.enumerated() where type != (index == 3 ? .bool : .float32) {
      throw .dtype(op: op.name, found: inputs, expected: "the mask is bool, all else float32")
    }
    return .float32
  }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 4, ranks: 4...4)
    let (q, k, v, mask) = (inputs[0], inputs[1], inputs[2], inputs[3])
    try require(
      k == v && q[..<2] == k[..<2] && q[3] == k[3], inputs,
      "queries [B, H, N, D] have keys and values [B, H, M, D]")
    try require(
      (mask[0] == q[0] || mask[0] == 1) && (mask[1] == q[1] || mask[1] == 1) && mask[2] == q[2]
        && mask[3] == k[2], inputs, "the mask is [B or 1, H or 1, N, M]")
    return [q, Array(q[..<3])]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let results = try context.g.graph.apply(
      AttentionBack(scale: scale), context.inputs + context.outputs + [context.g])
    return [results[0], results[1], results[2], nil]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 4 * inputs[0].elements * inputs[1][2] }
  /// The keys, transposed.
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { Attention.packed(inputs[1]) }
  static func packed(_ keys: [Int]) -> Int { keys[0] * keys[1] * ((keys[2] + 63) / 64 * 64) * keys[3] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (n, m, d) = (shapes[0][2], shapes[1][2], shapes[0][3])
    var result = [Double](repeating: 0, count: inputs[0].count)
    var logarithms = [Double](repeating: 0, count: shapes[0][..<3].reduce(1, *))
    for row in logarithms.indices {
      let p = Attention.weights(row, inputs, shapes, Double(scale))
      logarithms[row] = p.logarithm
      for j in 0..<m where p.weights[j] != 0 {
        for c in 0..<d { result[row * d + c] += p.weights[j] * inputs[2][(row / n * m + j) * d + c] }
      }
    }
    return [result, logarithms]
  }

  /// The softmax of row `row` of B H N, and its logarithm.
  static func weights(
    _ row: Int, _ inputs: [[Double]], _ shapes: [[Int]], _ scale: Double
  ) -> (weights: [Double], logarithm: Double) {
    let (heads, n, m, d) = (shapes[0][1], shapes[0][2], shapes[1][2], shapes[0][3])
    let (b, h, i) = (row / n / heads, row / n % heads, row % n)
    let mask = shapes[3]
    let maskRow = ((mask[0] == 1 ? 0 : b) * mask[1] + (mask[1] == 1 ? 0 : h)) * n + i
    var scores: [(key: Int, score: Double)] = []
    for j in 0..<m where inputs[3][maskRow * m + j] != 0 {
      let product = (0..<d).reduce(0) { $0 + inputs[0][row * d + $1] * inputs[1][(row / n * m + j) * d + $1] }
      if !(product * scale <= -1e30) { scores.append((j, product * scale)) }
    }
    var weights = [Double](repeating: 0, count: m)
    guard let top = scores.map(\.score).max() else { return (weights, 0) }
    for (key, score) in scores { weights[key] = UnaryFunction.exp.value(score - top) }
    let sum = weights.reduce(0, +)
    return (weights.map { $0 / sum }, top + UnaryFunction.log.value(sum))
  }
}

/// Which inputs and outputs of attention lie in memory as [B, N, H, D], whatever their shape says.
package struct TurnedValues: Sendable, Hashable {
  /// Their numbers.
  package var inputs: Set<Int> = [], outputs: Set<Int> = []
}

/// The gradient of `Attention`: (q, k, v, mask, result, logarithms, gradient) -> those of q, k and v.
package struct AttentionBack: Op {
  /// As in `Attention`.
  package let scale: Float
  /// As in `Attention`.
  package var turned = TurnedValues()
  package var name: String { "attention-back" }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    try Attention.type(self, inputs)
  }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 7, inputs, "it takes 7 inputs")
    let forward = try Attention(scale: scale).outputShapes(Array(inputs[..<4]))
    try require(
      inputs[4] == forward[0] && inputs[5] == forward[1] && inputs[6] == forward[0], inputs,
      "result, logarithms and gradient have the shapes of attention's")
    return [inputs[0], inputs[1], inputs[2]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(
      op: name, problem: "there is no second derivative; record attention as matmul, softmax and matmul")
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 10 * inputs[0].elements * inputs[1][2] }
  /// Keys and values, transposed.
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 2 * Attention.packed(inputs[1]) }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (n, m, d) = (shapes[0][2], shapes[1][2], shapes[0][3])
    let (q, k, v, g) = (inputs[0], inputs[1], inputs[2], inputs[6])
    var (dq, dk, dv) = (q.map { _ in 0.0 }, k.map { _ in 0.0 }, v.map { _ in 0.0 })
    for row in 0..<shapes[0][..<3].reduce(1, *) {
      let p = Attention.weights(row, inputs, shapes, Double(scale)).weights
      var flow = [Double](repeating: 0, count: m)
      for j in 0..<m {
        for c in 0..<d { flow[j] += g[row * d + c] * v[(row / n * m + j) * d + c] }
      }
      let mean = zip(p, flow).reduce(0) { $0 + $1.0 * $1.1 }
      for j in 0..<m {
        let s = p[j] * (flow[j] - mean) * Double(scale)
        for c in 0..<d {
          let at = (row / n * m + j) * d + c
          dv[at] += p[j] * g[row * d + c]
          dq[row * d + c] += s * k[at]
          dk[at] += s * q[row * d + c]
        }
      }
    }
    return [dq, dk, dv]
  }
}

extension Tensor {
  /// Scaled dot-product attention: queries [B, H, N, D], keys and values [B, H, M, D], mask (bool: may attend)
  /// broadcastable to [B, H, N, M] -> [B, H, N, D]. A query without any key gives 0.
  public func attention(keys: Tensor, values: Tensor, mask: Tensor?) throws(TensorError) -> Tensor {
    try require(
      rank == 4 && keys.rank == 4, "attention", "queries and keys have rank 4", others: [keys.shape])
    let (n, m) = (shape[2], keys.shape[2])
    var allowed =
      if let mask { mask } else {
        try graph.constant(HostTensor([Bool](repeating: true, count: n * m), [1, 1, n, m]))
      }
    try allowed.require(allowed.rank <= 4, "attention", "the mask has a rank of at most 4")
    allowed = try allowed.reshaped([Int](repeating: 1, count: 4 - allowed.rank) + allowed.shape)
    let target = Array(allowed.shape[..<2]) + [n, m]
    if allowed.shape != target { allowed = try allowed.broadcast(to: target) }
    let scale = 1 / Float(shape[3]).squareRoot()
    return try graph.apply(Attention(scale: scale), [self, keys, values, allowed])[0]
  }
}
