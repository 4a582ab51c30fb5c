/// The elements as another type keeps them (`DType.rounded`).
///
/// The gradient is that of the identity, in float32: rounding has none of its own that is of use.
package struct Cast: Op {
  /// The type of the result.
  package let to: DType
  /// A conversion to `to`.
  package init(to: DType) { self.to = to }
  package var name: String { "cast" }
  package var takesAnyType: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    return inputs
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { to }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    context.inputs[0].dtype.isFloat && to.isFloat ? [try context.g] : [nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    // Already of a type that float32 holds; more digits are those of a reference in double precision.
    [to == .float32 ? inputs[0] : inputs[0].map(to.rounded)]
  }

  /// Whether it gives the numbers that it takes, in more memory.
  func isWidening(_ from: DType) -> Bool { to == .float32 && from.isFloat }

  /// The type of what an op that moves elements is given, and gives.
  static func unchanged(_ op: any Op, _ inputs: [DType]) throws(TensorError) -> DType {
    guard let first = inputs.first, inputs.allSatisfy({ $0 == first }) else {
      throw .dtype(op: op.name, found: inputs, expected: "all of its inputs are of one type")
    }
    return first
  }
}

extension Tensor {
  /// The elements as `type` keeps them: rounded to the nearest, ties to even; to int32 cut toward 0 and clamped, 0 for
  /// what is no number; to bool whether they differ from 0. Gradients pass between float types unchanged.
  public func cast(to type: DType) throws(TensorError) -> Tensor {
    type == dtype ? self : try graph.apply(Cast(to: type), [self])[0]
  }

  /// float32 of a 16-bit float; else this.
  func widened() throws(TensorError) -> Tensor {
    dtype == .bfloat16 || dtype == .float16 ? try cast(to: .float32) : self
  }
}
