/// A matrix product with a factor, or that is added to: a, b as `product` takes them, and c of as many elements as the
/// product has, to scale · a·b + c in c's shape; without c to scale · a·b. The planner makes it of a product and what is
/// around it, for a device that does both at once.
package struct MatMulAdd: Op {
  /// The product.
  package let product: MatMul
  /// Its factor.
  package let scale: Float
  /// Whether there is a c.
  package let adds: Bool
  package init(_ product: MatMul, scale: Float = 1, adds: Bool = true) {
    self.product = product
    self.scale = scale
    self.adds = adds
  }
  package var name: String { adds ? "matmul-add" : "matmul-scaled" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: adds ? 3 : 2)
    let shape = try product.outputShapes(Array(inputs[..<2]))[0]
    if !adds { return [shape] }
    try require(
      inputs[2].elements == shape.elements && inputs.allSatisfy { $0.elements > 0 }, inputs,
      "there is a number to add to each of the product's \(shape)")
    return [inputs[2]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { adds ? 2 : nil }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "it is made after gradients are")
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let made = product.reference(Array(inputs[..<2]), Array(shapes[..<2]))[0]
    if !adds { return [made.map { $0 * Double(scale) }] }
    return [zip(made, inputs[2]).map { $0 * Double(scale) + $1 }]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    product.flops(Array(inputs[..<2]), outputs)
  }
  /// The product, where a kernel can't do more.
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { outputs[0].elements }
}
