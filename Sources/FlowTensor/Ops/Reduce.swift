/// The sum over some axes, which stay with length 1.
package struct Sum: Op {
  /// The axes summed over, ascending.
  package let axes: [Int]
  package var name: String { "sum" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    try require(!axes.isEmpty, "there is an axis to sum over")
    try require(
      axes.allSatisfy(inputs[0].indices.contains) && Set(axes).count == axes.count, inputs,
      "there are the axes \(axes)")
    return [shape(inputs[0])]
  }
  private func shape(_ input: [Int]) -> [Int] {
    input.enumerated().map { axes.contains($0.offset) ? 1 : $0.element }
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g.broadcast(to: context.inputs[0].shape)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let shape = shape(shapes[0])
    let strides = Broadcast.strides(of: shape, in: shapes[0])
    var result = [Double](repeating: 0, count: shape.elements)
    var position = 0
    Broadcast.forEachIndex(shapes[0]) { index in
      result[zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }] += inputs[0][position]
      position += 1
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { inputs[0].elements }
  /// The sums over one run of neighbouring axes each that make it up, the last axes first; each is of what the one before left.
  package func runs(_ input: [Int]) -> [(outer: Int, count: Int, inner: Int)] {
    var runs: [(outer: Int, count: Int, inner: Int)] = []
    var shape = input
    var axis = shape.count - 1
    while axis >= 0 {
      guard axes.contains(axis) else {
        axis -= 1
        continue
      }
      var first = axis
      while first > 0, axes.contains(first - 1) { first -= 1 }
      let inner = shape[(axis + 1)...].reduce(1, *)
      runs.append((shape[..<first].reduce(1, *), shape[first...axis].reduce(1, *), inner))
      for i in first...axis { shape[i] = 1 }
      axis = first - 1
    }
    return runs
  }
  /// Floats that the sum over the last run of axes leaves, at most.
  package func half(_ shape: [Int]) -> Int {
    axes.isEmpty ? 0 : shape.elements / max(1, shape[axes[axes.count - 1]])
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * half(inputs[0]) + inputs[0].elements / 8192 + outputs[0].elements + 64
  }
}

/// Softmax over the last axis.
package struct Softmax: Op {
  package var name: String { "softmax" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1, ranks: 1...Int.max)
    return [inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (y, g) = (context.outputs[0], try context.g)
    return [try (g - (g * y).sum([y.rank - 1])) * y]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let width = shapes[0].last ?? 1
    var result = inputs[0]
    for row in stride(from: 0, to: result.count, by: max(1, width)) {
      let top = result[row..<row + width].max() ?? 0
      var sum = 0.0
      for i in row..<row + width {
        result[i] = UnaryFunction.exp.value(result[i] - top)
        sum += result[i]
      }
      for i in row..<row + width { result[i] /= sum }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 8 * inputs[0].elements }
}

/// x / rms(x) over the last axis, rms(x) = sqrt(mean(x²) + epsilon); the weight is a separate product
/// (Zhang & Sennrich 2019). The second output is 1 / rms(x), for the gradient.
package struct RMSNormalize: Op {
  /// Added to the mean square.
  package let epsilon: Float
  package var name: String { "rms-normalize" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1, ranks: 1...Int.max)
    try require(inputs[0].last != 0, inputs, "a row has an element")
    return [inputs[0], inputs[0].dropLast() + [1]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    // From x and the scale, so that y need not be kept.
    let (x, scale) = (context.inputs[0], context.outputs[1])
    let (last, share) = ([x.rank - 1], 1 / Float(x.shape.last ?? 1))
    var flow: Tensor?
    if let g = context.upstream[0] {
      let y = try x * scale
      flow = try (g - y * ((g * y).sum(last) * share)) * scale
    }
    if let g = context.upstream[1] {
      let part = try x * (g * scale.square() * scale * -share)
      flow = try flow.map { (sum) throws(TensorError) in try sum + part } ?? part
    }
    return [flow]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let width = shapes[0].last ?? 1
    var (result, scales) = (inputs[0], [Double]())
    for row in stride(from: 0, to: result.count, by: width) {
      let square = result[row..<row + width].reduce(0) { $0 + $1 * $1 } / Double(width)
      let scale = 1 / (square + Double(epsilon)).squareRoot()
      scales.append(scale)
      for i in row..<row + width { result[i] *= scale }
    }
    return [result, scales]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 4 * inputs[0].elements }
}

extension Tensor {
  /// The sum over `axes` (all when `nil`), which stay with length 1.
  public func sum(_ axes: [Int]? = nil) throws(TensorError) -> Tensor {
    let axes = (axes ?? Array(0..<rank)).sorted()
    if axes.allSatisfy({ shape.indices.contains($0) && shape[$0] == 1 }) { return self }
    return try graph.apply(Sum(axes: axes), [self])[0]
  }

  /// The mean over `axes` (all when `nil`), which stay with length 1.
  public func mean(_ axes: [Int]? = nil) throws(TensorError) -> Tensor {
    let sum = try sum(axes)
    let count = (axes ?? Array(0..<rank)).reduce(1) { $0 * shape[$1] }
    return try sum * (1 / Float(count))
  }

  /// All elements' sum as a scalar, shape `[]`.
  public func total() throws(TensorError) -> Tensor { try sum().reshaped([]) }

  /// The gradient of a broadcast: summed down to `shape`.
  public func reduced(to shape: [Int]) throws(TensorError) -> Tensor {
    if shape == self.shape { return self }
    try require(Broadcast.shape(shape, self.shape) == self.shape, "sum", "\(shape) can be repeated to it")
    let extra = rank - shape.count
    let axes = (0..<rank).filter { $0 < extra || (shape[$0 - extra] == 1 && self.shape[$0] != 1) }
    return try sum(axes).reshaped(shape)
  }

  /// Softmax over the last axis.
  public func softmax() throws(TensorError) -> Tensor { try graph.apply(Softmax(), [self])[0] }

  /// RMSNorm over the last axis, times `weight` (shape [width]).
  public func rmsNorm(_ weight: Tensor, epsilon: Float = 1e-6) throws(TensorError) -> Tensor {
    try graph.apply(RMSNormalize(epsilon: epsilon), [self])[0] * weight
  }

  /// Layer normalisation over the last axis, without weight or bias (Ba et al. 2016).
  public func layerNorm(epsilon: Float = 1e-6) throws(TensorError) -> Tensor {
    let centred = try self - mean([rank - 1])
    return try graph.apply(RMSNormalize(epsilon: epsilon), [centred])[0]
  }
}
