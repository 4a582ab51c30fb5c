/// Indices int32 [...] -> [..., classes]: 1 at the index, else 0.
package struct OneHot: Op {
  /// The length of the new axis.
  package let classes: Int
  package var name: String { "one-hot" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    try require(classes > 0, "there is at least one class, not \(classes)")
    return [inputs[0] + [classes]]
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs == [.int32] else { throw .dtype(op: name, found: inputs, expected: "indices are int32") }
    return .float32
  }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (0, classes) }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [nil] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    [inputs[0].flatMap { index in (0..<classes).map { Double($0) == index ? 1 : 0 } }]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// Elements along an axis: x [..., N, ...], indices int32 [..., M, ...] -> the indices' shape. An index outside the axis
/// is refused when the program is run; one that the program itself computed gives 0.
package struct TakeAlong: Op {
  /// The axis that the indices count along.
  package let axis: Int
  package var name: String { "take-along" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(
      TakeAlong.fits(inputs[0], inputs[1], axis), inputs, "both are alike but along axis \(axis)")
    return [inputs[1]]
  }
  static func fits(_ a: [Int], _ b: [Int], _ axis: Int) -> Bool {
    a.count == b.count && a.indices.contains(axis) && a.indices.allSatisfy { $0 == axis || a[$0] == b[$0] }
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Gather.type(self, inputs) }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (1, inputs[0][axis]) }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let op = PutAlong(axis: axis, count: context.inputs[0].shape[axis])
    return [try context.inputs[0].graph.apply(op, [context.g, context.inputs[1]])[0], nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (from, to) = (AxisRun(shapes[0], axis...axis), AxisRun(shapes[1], axis...axis))
    var result: [Double] = []
    for o in 0..<to.outer {
      for k in 0..<to.count {
        for i in 0..<to.inner {
          let index = Int(inputs[1][(o * to.count + k) * to.inner + i])
          let known = (0..<from.count).contains(index)
          result.append(known ? inputs[0][(o * from.count + index) * from.inner + i] : 0)
        }
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// Adds elements up along an axis, at their indices: x and indices int32 [..., M, ...] -> [..., count, ...]. The gradient
/// of `TakeAlong`, as that is its.
package struct PutAlong: Op {
  /// The axis that the indices count along.
  package let axis: Int
  /// Its length in the result.
  package let count: Int
  package var name: String { "put-along" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(inputs[0] == inputs[1], inputs, "there is an index for each element")
    try require(inputs[0].indices.contains(axis), inputs, "there is an axis \(axis)")
    var shape = inputs[0]
    shape[axis] = count
    return [shape]
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Gather.type(self, inputs) }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (1, count) }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g.taken(axis, at: context.inputs[1]), nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let from = AxisRun(shapes[0], axis...axis)
    var result = [Double](repeating: 0, count: from.outer * count * from.inner)
    for position in inputs[0].indices {
      let (o, i) = (position / (from.count * from.inner), position % from.inner)
      let index = Int(inputs[1][position])
      if (0..<count).contains(index) { result[(o * count + index) * from.inner + i] += inputs[0][position] }
    }
    return [result]
  }
}

/// The same bytes, as a constant to gradients.
package struct Detach: Op {
  package var name: String { "detach" }
  package var isView: Bool { true }
  package var takesAnyType: Bool { true }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Cast.unchanged(self, inputs) }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    return inputs
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [nil] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { inputs }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

extension Tensor {
  /// These indices (int32 [...]) as [..., classes] with 1 at the index, else 0.
  public func oneHot(_ classes: Int) throws(TensorError) -> Tensor {
    try graph.apply(OneHot(classes: classes), [self])[0]
  }

  /// The elements along `axis` at `indices` (int32, alike but along `axis`).
  public func taken(_ axis: Int, at indices: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(TakeAlong(axis: axis), [self, indices])[0]
  }

  /// Zeros with `count` along `axis`, each element added at its index (int32, of this shape).
  public func scattered(_ axis: Int, at indices: Tensor, count: Int) throws(TensorError) -> Tensor {
    try graph.apply(PutAlong(axis: axis, count: count), [self, indices])[0]
  }

  /// The same value, which no gradient flows through.
  public func detached() throws(TensorError) -> Tensor { try graph.apply(Detach(), [self])[0] }

  /// In reverse order along `axes`.
  public func flipped(_ axes: [Int]) throws(TensorError) -> Tensor {
    try require(
      axes.allSatisfy(shape.indices.contains) && Set(axes).count == axes.count, "flip",
      "there are the axes \(axes)")
    if axes.allSatisfy({ shape[$0] <= 1 }) { return self }
    var strides = rowStrides()
    var offset = 0
    for axis in axes where shape.elements > 0 {
      offset += (shape[axis] - 1) * strides[axis]
      strides[axis] = -strides[axis]
    }
    let op = StridedCopy(kind: .flip(axes), shape: shape, strides: strides, offset: offset)
    return try graph.apply(op, [self])[0]
  }

  /// The whole repeated `repeats[i]` times along axis i.
  public func tiled(_ repeats: [Int]) throws(TensorError) -> Tensor {
    try require(
      repeats.count == rank && repeats.allSatisfy { $0 > 0 }, "tile",
      "\(repeats) has a positive number per axis")
    var result = self
    for (axis, count) in repeats.enumerated() where count > 1 {
      result = try result.repeated(count, before: axis, as: axis)
    }
    return result
  }

  /// Each element along `axis` repeated `count` times in a row.
  public func repeated(_ count: Int, along axis: Int) throws(TensorError) -> Tensor {
    try require(shape.indices.contains(axis) && count > 0, "repeat", "there is an axis \(axis) and a count")
    return try repeated(count, before: axis + 1, as: axis)
  }

  /// `count` copies of everything from axis `cut` on, counted by axis `axis`.
  private func repeated(_ count: Int, before cut: Int, as axis: Int) throws(TensorError) -> Tensor {
    let (outer, inner) = (Array(shape[..<cut]).elements, Array(shape[cut...]).elements)
    var target = shape
    target[axis] *= count
    return try reshaped([outer, 1, inner]).broadcast(to: [outer, count, inner]).reshaped(target)
  }
}
