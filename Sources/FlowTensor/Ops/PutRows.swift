/// Rows along an axis replaced: x [..., N, ...], rows [..., M, ...] of the same type and a place, int32 [1] -> x with the
/// rows from that place on. A cache that is assigned its new value is written where it lies, and nothing else of it moves.
package struct PutRows: Op {
  /// The axis of the rows.
  package let axis: Int
  package init(axis: Int) { self.axis = axis }
  package var name: String { "put-rows" }
  package var takesAnyType: Bool { true }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs.count == 3, inputs[0] == inputs[1], inputs[2] == .int32 else {
      throw .dtype(op: name, found: inputs, expected: "rows are of x's type, the place is int32")
    }
    return inputs[0]
  }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 3)
    try require(
      TakeAlong.fits(inputs[0], inputs[1], axis) && inputs[1][axis] <= inputs[0][axis] && inputs[2] == [1],
      inputs, "x and rows are alike but along axis \(axis), where there are no more rows; the place is [1]")
    return [inputs[0]]
  }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? {
    (2, inputs[0][axis] - inputs[1][axis] + 1)
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "there is none: it is for what is kept between runs")
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (to, from) = (AxisRun(shapes[0], axis...axis), AxisRun(shapes[1], axis...axis))
    let place = Int(inputs[2][0])
    var result = inputs[0]
    for o in 0..<from.outer {
      for k in 0..<from.count * from.inner {
        result[(o * to.count + place) * to.inner + k] = inputs[1][o * from.count * from.inner + k]
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

extension Tensor {
  /// This with `rows`, of its type, in the place of as many rows along `axis`.
  /// - Parameter place: the first of them, int32 [1].
  public func replacing(_ axis: Int, with rows: Tensor, at place: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(PutRows(axis: axis), [self, rows, place])[0]
  }
}
