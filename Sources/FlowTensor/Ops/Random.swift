import FlowCore

/// Random numbers in a program: element i is made of the words of Philox4x32-10's block i / 4 with the key
/// (seed, 0) and the counter (i / 4, 0, stream, step), so a resumed run draws the same. Input: int32 [2] = seed and
/// step, neither negative.
package struct Random: Op {
  /// What is drawn.
  package enum Distribution: Int32, Sendable, CaseIterable {
    /// In [0, 1), multiples of 2⁻²⁴.
    case uniform
    /// Standard normal (Box & Muller 1958), one pair of words for two numbers.
    case normal
  }
  /// What is drawn.
  package let distribution: Distribution
  /// The shape drawn.
  package let shape: [Int]
  /// Tells apart the draws of one step.
  package let stream: UInt32
  package var name: String { "random-\(distribution)" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs == [[2]], inputs, "it takes seed and step, [2]")
    return [shape]
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs == [.int32] else {
      throw .dtype(op: name, found: inputs, expected: "seed and step are int32")
    }
    return .float32
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [nil] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (seed, step) = (UInt32(inputs[0][0]), UInt32(inputs[0][1]))
    var result: [Double] = []
    while result.count < shape.elements {
      let block = Philox.block(
        key: (seed, 0), counter: (UInt32(truncatingIfNeeded: result.count / 4), 0, stream, step))
      for (a, b) in [(block.0, block.1), (block.2, block.3)] {
        switch distribution {
        case .uniform: result += [Double(a >> 8) * 0x1p-24, Double(b >> 8) * 0x1p-24]
        case .normal:
          let radius = (-2 * UnaryFunction.log.value(Double((a >> 8) + 1) * 0x1p-24)).squareRoot()
          let angle = Double(b >> 8) * 0x1p-24 * 2 * Double.pi
          result += [radius * UnaryFunction.cos.value(angle), radius * UnaryFunction.sin.value(angle)]
        }
      }
    }
    return [Array(result.prefix(shape.elements))]
  }
}

extension Graph {
  /// Random numbers of `shape` that depend only on `key` (int32 [2]: seed and step) and `stream`.
  package func random(
    _ distribution: Random.Distribution, _ shape: [Int], key: Tensor, stream: UInt32
  ) throws(TensorError) -> Tensor {
    try apply(Random(distribution: distribution, shape: shape, stream: stream), [key])[0]
  }
}

extension Tensor {
  /// Zeroes a share `rate` of the elements and scales the rest by 1 / (1 - rate); `key` and `stream` as in
  /// `Graph.random`. These may be the rows of one part of a batch that is cut into `parts` along the first axis: then they are
  /// dropped as they would be in the whole.
  public func dropout(
    _ rate: Float, key: Tensor, stream: UInt32, part: Int = 0, of parts: Int = 1
  ) throws(TensorError) -> Tensor {
    guard rate >= 0, rate < 1 else {
      throw .argument(op: "dropout", problem: "a share of \(rate) is not in [0, 1)", path: graph.path)
    }
    if rate == 0 { return self }
    let isWhole = parts == 1 || shape.isEmpty
    let whole = isWhole ? shape : [shape[0] * parts] + shape.dropFirst()
    var drawn = try graph.random(.uniform, whole, key: key, stream: stream)
    if !isWhole { drawn = try drawn.sliced(axis: 0, from: part * shape[0], count: shape[0]) }
    // u >= rate, as 1 - (u < rate).
    let kept = try 1 - (rate - drawn).step()
    return try self * (kept * (1 / (1 - rate)))
  }
}
