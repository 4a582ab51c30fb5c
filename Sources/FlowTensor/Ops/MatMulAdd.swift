/// A matrix product that is added to: a, b as `product` takes them, and c of as many elements as the product has, to
/// scale · a·b + c in c's shape. The planner makes it of a product and a sum, for a device that does both at once.
package struct MatMulAdd: Op {
  /// The product.
  package let product: MatMul
  /// Its factor.
  package let scale: Float
  package init(_ product: MatMul, scale: Float = 1) {
    self.product = product
    self.scale = scale
  }
  package var name: String { "matmul-add" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 3)
    let shape = try product.outputShapes(Array(inputs[..<2]))[0]
    try require(
      inputs[2].elements == shape.elements && inputs.allSatisfy { $0.elements > 0 }, inputs,
      "there is a number to add to each of the product's \(shape)")
    return [inputs[2]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 2 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "it is made after gradients are")
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let made = product.reference(Array(inputs[..<2]), Array(shapes[..<2]))[0]
    return [zip(made, inputs[2]).map { $0 * Double(scale) + $1 }]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    product.flops(Array(inputs[..<2]), outputs)
  }
  /// The product, where a kernel can't add to what is there.
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { outputs[0].elements }
}
