/// A strided copy: output element i comes from `offset + i · strides` of the input. Permutations, broadcasts and slices
/// are strided copies.
package struct StridedCopy: Op {
  /// What kind it is, which says how its gradient flows back.
  package enum Kind: Sendable, Hashable {
    case permute([Int])
    case broadcast
    case slice(axis: Int, start: Int, count: Int)
    case flip([Int])
  }
  let kind: Kind
  let shape: [Int]
  /// Input strides per output axis.
  package let strides: [Int]
  /// The first element taken.
  package let offset: Int

  /// All of it.
  static func whole(_ shape: [Int]) -> StridedCopy {
    let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
    return StridedCopy(kind: .permute(Array(shape.indices)), shape: shape, strides: strides, offset: 0)
  }

  package var takesAnyType: Bool { true }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Cast.unchanged(self, inputs) }
  package var name: String {
    switch kind {
    case .permute: "permute"
    case .broadcast: "broadcast"
    case .slice: "slice"
    case .flip: "flip"
    }
  }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, g) = (context.inputs[0], try context.g)
    switch kind {
    case .permute(let order):
      var inverse = order
      for (to, from) in order.enumerated() { inverse[from] = to }
      return [try g.permuted(inverse)]
    case .broadcast: return [try g.reduced(to: x.shape)]
    case .slice(let axis, let start, let count):
      return [try g.padded(axis: axis, before: start, after: x.shape[axis] - start - count)]
    case .flip(let axes): return [try g.flipped(axes)]
    }
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    var result: [Double] = []
    Broadcast.forEachIndex(shape) { index in
      result.append(inputs[0][zip(index, strides).reduce(offset) { $0 + $1.0 * $1.1 }])
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// Joins tensors along an axis.
package struct Concatenate: Op {
  /// The axis joined along.
  package let axis: Int
  package var name: String { "concatenate" }
  package var takesAnyType: Bool { true }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Cast.unchanged(self, inputs) }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(!inputs.isEmpty, inputs, "there is something to join")
    var shape = inputs[0]
    try require(shape.indices.contains(axis), inputs, "the first has an axis \(axis)")
    func others(_ shape: [Int]) -> [Int] { Array(shape[..<axis] + [-1] + shape[(axis + 1)...]) }
    try require(
      inputs.allSatisfy { $0.count == shape.count && others($0) == others(shape) }, inputs,
      "all are alike but along axis \(axis)")
    shape[axis] = inputs.reduce(0) { $0 + $1[axis] }
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    var start = 0
    var flows: [Tensor?] = []
    for input in context.inputs {
      try flows.append(context.g.sliced(axis: axis, from: start, count: input.shape[axis]))
      start += input.shape[axis]
    }
    return flows
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let outer = shapes[0][..<axis].reduce(1, *)
    var result: [Double] = []
    for o in 0..<outer {
      for (values, shape) in zip(inputs, shapes) {
        let run = shape[axis...].reduce(1, *)
        result += values[o * run..<(o + 1) * run]
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}
