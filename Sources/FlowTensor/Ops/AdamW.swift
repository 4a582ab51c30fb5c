/// One step of AdamW (Loshchilov & Hutter 2019; spec 4.8) in one pass over memory. Inputs: parameter, gradient, first
/// and second moment, scalars [4] = learning rate, 1 - beta1ⁿ, 1 - beta2ⁿ, factor of the gradient. Outputs: the new
/// parameter and moments, in the place of the old.
package struct AdamW: Op, Hashable {
  /// Decay of the first moment.
  package let beta1: Float
  /// Decay of the second moment.
  package let beta2: Float
  /// Added to the root of the second moment.
  package let epsilon: Float
  /// Decoupled weight decay.
  package let weightDecay: Float

  /// The hyperparameters.
  package init(beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0.01) {
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
  }

  package var name: String { "adamw" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 5)
    try require(
      inputs[..<4].allSatisfy { $0 == inputs[0] } && inputs[4] == [4], inputs,
      "parameter, gradient and moments have one shape and the scalars are [4]")
    return [inputs[0], inputs[0], inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { [0, 2, 3][index] }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 14 * inputs[0].elements }
  /// An optimiser's step is not differentiated: nothing flows.
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [nil, nil, nil, nil, nil]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let s = inputs[4]
    var (p, m, v) = (inputs[0], inputs[2], inputs[3])
    for i in p.indices {
      let g = inputs[1][i] * s[3]
      m[i] = Double(beta1) * m[i] + (1 - Double(beta1)) * g
      v[i] = Double(beta2) * v[i] + (1 - Double(beta2)) * g * g
      p[i] *= 1 - s[0] * Double(weightDecay)
      p[i] -= s[0] / s[1] * m[i] / ((v[i] / s[2]).squareRoot() + Double(epsilon))
    }
    return [p, m, v]
  }
}

extension Graph {
  /// Updates `parameter` in place by AdamW; `first` and `second` are its moments. Its new value.
  @discardableResult package func adamW(
    _ op: AdamW, parameter: Tensor, gradient: Tensor, first: Tensor, second: Tensor, scalars: Tensor
  ) throws(TensorError) -> Tensor {
    let new = try apply(op, [parameter, gradient, first, second, scalars])
    try assign(parameter, new[0])
    try assign(first, new[1])
    try assign(second, new[2])
    return new[0]
  }
}
