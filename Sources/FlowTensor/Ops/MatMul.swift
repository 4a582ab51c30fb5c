/// Matrix product over the last two axes, batched over the others: [..., M, K] · [..., K, N] -> [..., M, N]; either side
/// may be taken transposed. The leading axes are equal, or one side has none.
package struct MatMul: Op {
  /// The left side is given as [..., K, M].
  package let transposeA: Bool
  /// The right side is given as [..., N, K].
  package let transposeB: Bool
  package var name: String { "matmul" }
  package var isProduct: Bool { true }

  /// The sizes of one product and how many there are.
  package struct Sizes: Sendable {
    /// Rows, columns, and the length summed over.
    package let m: Int, n: Int, k: Int
    /// The number of products.
    package let batch: Int
    /// Elements from one left side to the next; 0 when all share it. The right side likewise.
    package let strideA: Int, strideB: Int
  }

  /// The sizes for inputs of these shapes, which fit.
  package func sizes(_ a: [Int], _ b: [Int]) -> Sizes {
    let (ra, rb) = (a.count, b.count)
    let m = a[ra - (transposeA ? 1 : 2)]
    let k = a[ra - (transposeA ? 2 : 1)]
    let n = b[rb - (transposeB ? 2 : 1)]
    let (ba, bb) = (a.dropLast(2).reduce(1, *), b.dropLast(2).reduce(1, *))
    return Sizes(
      m: m, n: n, k: k, batch: ba == 1 ? bb : ba, strideA: ba == 1 ? 0 : m * k, strideB: bb == 1 ? 0 : k * n)
  }

  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 2...Int.max)
    let (a, b) = (inputs[0], inputs[1])
    try require(
      a[a.count - (transposeA ? 2 : 1)] == b[b.count - (transposeB ? 1 : 2)], inputs,
      "the left\(transposeA ? ", transposed," : "") has as many columns as the right"
        + "\(transposeB ? ", transposed," : "") has rows")
    let (left, right) = (Array(a.dropLast(2)), Array(b.dropLast(2)))
    try require(
      left == right || left.elements == 1 || right.elements == 1, inputs,
      "the leading axes are equal, or one side has none")
    let s = sizes(a, b)
    let leading =
      left.elements == right.elements
      ? (left.count >= right.count ? left : right) : left.elements == 1 ? right : left
    return [leading + [s.m, s.n]]
  }

  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (a, b, g) = (context.inputs[0], context.inputs[1], try context.g)
    // A = op(a), B = op(b): dA = g Bᵀ, dB = Aᵀ g, each transposed back if it was given transposed.
    let ga =
      try transposeA
      ? b.matmul(g, transposeSelf: transposeB, transpose: true)
      : g.matmul(b, transpose: !transposeB)
    let gb =
      try transposeB
      ? g.matmul(a, transposeSelf: true, transpose: transposeA)
      : a.matmul(g, transposeSelf: !transposeA)
    return [try ga.reduced(to: a.shape), try gb.reduced(to: b.shape)]
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let s = sizes(shapes[0], shapes[1])
    var result = [Double](repeating: 0, count: s.batch * s.m * s.n)
    for batch in 0..<s.batch {
      for i in 0..<s.m {
        for j in 0..<s.n {
          var sum = 0.0
          for k in 0..<s.k {
            let a = inputs[0][batch * s.strideA + (transposeA ? k * s.m + i : i * s.k + k)]
            let b = inputs[1][batch * s.strideB + (transposeB ? j * s.k + k : k * s.n + j)]
            sum += a * b
          }
          result[(batch * s.m + i) * s.n + j] = sum
        }
      }
    }
    return [result]
  }

  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * outputs[0].elements * sizes(inputs[0], inputs[1]).k
  }
}

/// Rows of a table: table [rows, width], indices int32 [...] -> [..., width]. An index outside the table is refused when
/// the program is run; one that the program itself computed gives 0.
package struct Gather: Op {
  package var name: String { "gather" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(inputs[0].count == 2, inputs, "the table has rank 2")
    return [inputs[1] + [inputs[0][1]]]
  }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (1, inputs[0][0]) }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Gather.type(self, inputs) }
  /// float32 at int32 indices.
  static func type(_ op: any Op, _ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs == [.float32, .int32] else {
      throw .dtype(op: op.name, found: inputs, expected: "numbers are float32 and indices int32")
    }
    return .float32
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let table = context.inputs[0]
    return [try table.graph.apply(ScatterAdd(rows: table.shape[0]), [context.g, context.inputs[1]])[0], nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let width = shapes[0][1]
    return [
      inputs[1].flatMap { index -> [Double] in
        guard (0..<shapes[0][0]).contains(Int(index)) else { return [Double](repeating: 0, count: width) }
        return Array(inputs[0][Int(index) * width..<(Int(index) + 1) * width])
      }
    ]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// The gradient of `Gather`: values [..., width], indices int32 [...] -> [rows, width], added up in order.
package struct ScatterAdd: Op {
  /// Rows of the table.
  package let rows: Int
  package var name: String { "scatter-add" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(
      !inputs[0].isEmpty && inputs[0].dropLast() == inputs[1][...], inputs, "there is a row for each index")
    return [[rows, inputs[0].last ?? 0]]
  }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (1, rows) }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Gather.type(self, inputs) }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g.graph.apply(Gather(), [context.g, context.inputs[1]])[0], nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let width = shapes[0].last ?? 0
    var result = [Double](repeating: 0, count: rows * width)
    for (position, index) in inputs[1].enumerated() where (0..<rows).contains(Int(index)) {
      for i in 0..<width { result[Int(index) * width + i] += inputs[0][position * width + i] }
    }
    return [result]
  }
}

extension Tensor {
  /// The matrix product with `other`, over the last two axes.
  public func matmul(_ other: Tensor, transposeSelf: Bool = false, transpose: Bool = false)
    throws(TensorError) -> Tensor
  {
    // One shared right side: all rows of the left are one tall matrix.
    if other.rank == 2, rank > 2, !transposeSelf {
      let flat = try reshaped([-1, shape[rank - 1]])
      let result = try flat.matmul(other, transpose: transpose)
      return try result.reshaped(shape.dropLast() + [result.shape[1]])
    }
    return try graph.apply(MatMul(transposeA: transposeSelf, transposeB: transpose), [self, other])[0]
  }

  /// A linear layer: x [..., in], weight [out, in], bias [out] -> [..., out].
  public func linear(_ weight: Tensor, _ bias: Tensor? = nil) throws(TensorError) -> Tensor {
    let y = try matmul(weight, transpose: true)
    return if let bias { try y + bias } else { y }
  }

  /// The rows of this table [rows, width] at `indices` (int32 [...]): [..., width].
  public func rows(at indices: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Gather(), [self, indices])[0]
  }
}
