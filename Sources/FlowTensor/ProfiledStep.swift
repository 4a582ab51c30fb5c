/// What a step took, and what it can't do without.
package struct ProfiledStep {
  /// Its op's name, and the module that recorded it.
  package let op: String
  package let path: String
  package let inputs: [[Int]]
  package let outputs: [[Int]]
  /// The median of its runs.
  package let seconds: Double
  /// Its floating-point operations, and whether they can go at the speed of the matrix product.
  package let flops: Int
  package let isProduct: Bool
  /// Each input read once and each output written once, as they are kept.
  package let bytes: Int

  init(_ step: Step, seconds: Double) {
    (op, path, self.seconds) = (step.op.name, step.path, seconds)
    (inputs, outputs) = (step.inputs.map(\.shape), step.outputs.map(\.shape))
    flops = step.op.flops(inputs, outputs)
    isProduct = step.op.isProduct
    let all = step.inputs.map { ($0.shape, $0.dtype) } + step.outputs.map { ($0.shape, $0.dtype) }
    bytes = step.op.isView ? 0 : all.reduce(0) { $0 + $1.0.elements * $1.1.size }
  }
}
