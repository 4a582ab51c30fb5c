/// The largest (or smallest) over neighbouring axes, which stay with length 1. Equals share the gradient; NaN wins.
package struct Extreme: Op {
  /// The axes reduced.
  package let axes: ClosedRange<Int>
  /// The largest, not the smallest.
  package let largest: Bool
  package var name: String { largest ? "max" : "min" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    let shape = inputs[0]
    try require(
      axes.lowerBound >= 0 && axes.upperBound < shape.count, inputs, "there are the axes \(Array(axes))")
    try require(shape[axes].allSatisfy { $0 > 0 }, inputs, "there is an element to take")
    return [shape.enumerated().map { axes.contains($0.offset) ? 1 : $0.element }]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let chosen = try context.inputs[0].equal(context.outputs[0])
    return [try chosen * (context.g / chosen.sum(Array(axes)))]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let run = AxisRun(shapes[0], axes)
    var result: [Double] = []
    run.forEachRow { position in
      let row = (0..<run.count).map { inputs[0][position($0)] }
      result.append(row.contains(where: \.isNaN) ? .nan : (largest ? row.max() : row.min()) ?? .nan)
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { inputs[0].elements }
}

/// Where along an axis, which stays with length 1, the largest (or smallest) is: int32, of equals the first.
package struct ArgExtreme: Op {
  /// The axis searched.
  package let axis: Int
  /// The largest, not the smallest.
  package let largest: Bool
  package var name: String { largest ? "argmax" : "argmin" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 1, inputs, "it takes 1 input")
    try require(axis >= 0, "axis \(axis) must not be negative")
    return try Extreme(axes: axis...axis, largest: largest).outputShapes(inputs)
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs == [.float32] else {
      throw .dtype(op: name, found: inputs, expected: "its input is float32")
    }
    return .int32
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [nil] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let run = AxisRun(shapes[0], axis...axis)
    var result: [Double] = []
    run.forEachRow { position in
      var best = 0
      for i in 1..<max(1, run.count) {
        let (value, top) = (inputs[0][position(i)], inputs[0][position(best)])
        if (largest ? value > top : value < top) || (value.isNaN && !top.isNaN) { best = i }
      }
      result.append(Double(best))
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { inputs[0].elements }
}

/// The running sum along an axis, from its start or (`reverse`) from its end.
package struct CumulativeSum: Op {
  /// The axis summed along.
  package let axis: Int
  /// From the end.
  package let reverse: Bool
  package var name: String { "cumsum" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    try require(inputs[0].indices.contains(axis), inputs, "there is an axis \(axis)")
    return [inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g.cumulativeSum(axis, reverse: !reverse)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let run = AxisRun(shapes[0], axis...axis)
    var result = inputs[0]
    run.forEachRow { position in
      var sum = 0.0
      for i in 0..<run.count {
        let at = position(reverse ? run.count - 1 - i : i)
        sum += inputs[0][at]
        result[at] = sum
      }
    }
    return [result]
  }
}

/// A shape seen as [outer, count, inner], where `count` runs over neighbouring axes.
package struct AxisRun: Sendable {
  /// Elements before, along, and after the axes.
  package let outer: Int, count: Int, inner: Int
  /// The axes `axes` of `shape`.
  package init(_ shape: [Int], _ axes: ClosedRange<Int>) {
    outer = Array(shape[..<axes.lowerBound]).elements
    count = Array(shape[axes]).elements
    inner = Array(shape[(axes.upperBound + 1)...]).elements
  }
  /// Calls `body` for each row along the axes, with what gives the position of its i-th element.
  func forEachRow(_ body: ((Int) -> Int) -> Void) {
    for o in 0..<outer {
      for i in 0..<inner { body { (o * count + $0) * inner + i } }
    }
  }
}

extension Tensor {
  private func extreme(_ axes: [Int]?, largest: Bool) throws(TensorError) -> Tensor {
    var result = self
    var rest = (axes ?? Array(0..<rank)).sorted()
    // A run of neighbouring axes at a time.
    while let last = rest.popLast() {
      var first = last
      while rest.last == first - 1, let next = rest.popLast() { first = next }
      result = try graph.apply(Extreme(axes: first...last, largest: largest), [result])[0]
    }
    return result
  }

  /// The largest over `axes` (all when `nil`), which stay with length 1.
  public func largest(_ axes: [Int]? = nil) throws(TensorError) -> Tensor { try extreme(axes, largest: true) }

  /// The smallest over `axes` (all when `nil`), which stay with length 1.
  public func smallest(_ axes: [Int]? = nil) throws(TensorError) -> Tensor {
    try extreme(axes, largest: false)
  }

  /// Where along `axis`, which stays with length 1, the largest is: int32, of equals the first.
  public func argmax(_ axis: Int) throws(TensorError) -> Tensor {
    try graph.apply(ArgExtreme(axis: axis, largest: true), [self])[0]
  }

  /// Where along `axis`, which stays with length 1, the smallest is: int32, of equals the first.
  public func argmin(_ axis: Int) throws(TensorError) -> Tensor {
    try graph.apply(ArgExtreme(axis: axis, largest: false), [self])[0]
  }

  /// ln Σ e^x over `axes` (all when `nil`), which stay with length 1, without overflow.
  public func logSumExp(_ axes: [Int]? = nil) throws(TensorError) -> Tensor {
    let top = try largest(axes).detached()
    return try (self - top).exp().sum(axes).log() + top
  }

  /// The running sum along `axis`, from its start or (`reverse`) from its end.
  public func cumulativeSum(_ axis: Int, reverse: Bool = false) throws(TensorError) -> Tensor {
    try graph.apply(CumulativeSum(axis: axis, reverse: reverse), [self])[0]
  }
}
