import Foundation

/// The alias-free snake activation of BigVGAN (Lee et al. 2023; spec 5.5, 5.6): upsample by two, x + sin²(αx)/β per
/// channel, downsample by two. Inputs x [B, C, T], alpha [C], beta [C] (the same tensor for plain snake).
package struct AliasFreeSnake: Op {
  /// α and β are given as logarithms.
  package let logScale: Bool
  package var name: String { "snake" }

  /// The 12 taps of its filters, cut off at half the doubled rate's band.
  package static let filter = lowPass(ratio: 2, taps: 12)

  /// A Kaiser-windowed sinc for a change of rate by `ratio`: cut-off 0.5 / ratio, half-width 0.6 / ratio, of sum 1.
  package static func lowPass(ratio: Int, taps: Int) -> [Float] {
    let attenuation = 2.285 * Double(taps / 2 - 1) * .pi * 4 * 0.6 / Double(ratio) + 7.95
    let beta =
      attenuation > 50
      ? 0.1102 * (attenuation - 8.7)
      : attenuation >= 21 ? 0.5842 * pow(attenuation - 21, 0.4) + 0.07886 * (attenuation - 21) : 0
    func bessel(_ x: Double) -> Double {
      var (sum, term, k) = (1.0, 1.0, 1.0)
      while term > 1e-17 * sum {
        term *= (x / 2 / k) * (x / 2 / k)
        sum += term
        k += 1
      }
      return sum
    }
    let values = (0..<taps).map { i -> Double in
      let position = 2 * Double(i) / Double(max(1, taps - 1)) - 1
      let window = bessel(beta * (1 - position * position).squareRoot()) / bessel(beta)
      let phase = .pi / Double(ratio) * (Double(i - taps / 2) + (taps % 2 == 0 ? 0.5 : 0))
      return window * (phase == 0 ? 1 : sin(phase) / phase)
    }
    let sum = values.reduce(0, +)
    return values.map { Float($0 / sum) }
  }

  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 3, inputs, "it takes 3 inputs")
    try require(
      inputs[0].count == 3 && inputs[1] == [inputs[0][1]] && inputs[2] == inputs[1], inputs,
      "x [B, C, T] has alpha and beta [C]")
    return [inputs[0]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let x = context.inputs[0]
    let flows = try x.graph.apply(AliasFreeSnakeBack(logScale: logScale), [context.g] + context.inputs)
    let channels = context.inputs[1].shape
    return [
      flows[0], try flows[1].sum([0]).reshaped(channels), try flows[2].sum([0]).reshaped(channels),
    ]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 70 * inputs[0].elements }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (channels, length) = (shapes[0][1], shapes[0][2])
    if length == 0 { return [[]] }
    let taps = AliasFreeSnake.filter.map(Double.init)
    var result: [Double] = []
    for row in 0..<shapes[0][0] * channels {
      let x = Array(inputs[0][row * length..<(row + 1) * length])
      let a = logScale ? exp(inputs[1][row % channels]) : inputs[1][row % channels]
      let b = logScale ? exp(inputs[2][row % channels]) : inputs[2][row % channels]
      // Upsampling: edges repeated 5 times, zeros between, filtered, cropped by 15.
      let wide = (0..<length + 10).map { x[min(max($0 - 5, 0), length - 1)] }
      var fast = [Double](repeating: 0, count: (wide.count - 1) * 2 + 12)
      for (i, value) in wide.enumerated() { for k in 0..<12 { fast[2 * i + k] += 2 * value * taps[k] } }
      let u = fast[15..<15 + 2 * length].map { $0 + pow(sin(a * $0), 2) / (b + 1e-9) }
      for t in 0..<length {
        result.append((0..<12).reduce(0) { $0 + taps[$1] * u[min(max(2 * t + $1 - 5, 0), 2 * length - 1)] })
      }
    }
    return [result]
  }
}

/// The gradients of `AliasFreeSnake`: inputs g, x, alpha, beta; outputs like x, and [B, C] for alpha and beta.
package struct AliasFreeSnakeBack: Op {
  /// As in `AliasFreeSnake`.
  package let logScale: Bool
  package var name: String { "snake-back" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 4 && inputs[0] == inputs[1], inputs, "the gradient has the input's shape")
    _ = try AliasFreeSnake(logScale: logScale).outputShapes(Array(inputs[1...]))
    let channels = Array(inputs[1].dropLast())
    return [inputs[1], channels, channels]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 160 * inputs[1].elements }
  /// Not differentiable again.
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "there is no second derivative")
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    // Central differences of the forward reference, contracted with g.
    let forward = AliasFreeSnake(logScale: logScale)
    let step = 1e-5
    let channels = Array(shapes[1].dropLast())
    var results = [shapes[1], channels, channels].map { [Double](repeating: 0, count: $0.elements) }
    let length = shapes[1][2]
    for part in 0..<3 {
      for i in inputs[part + 1].indices {
        var (up, down) = (Array(inputs[1...]), Array(inputs[1...]))
        up[part][i] += step
        down[part][i] -= step
        let high = forward.reference(up, Array(shapes[1...]))[0]
        let low = forward.reference(down, Array(shapes[1...]))[0]
        for j in high.indices {
          let flow = inputs[0][j] * (high[j] - low[j]) / (2 * step)
          if part == 0 { results[0][i] += flow } else { results[part][j / length] += flow }
        }
      }
    }
    return results
  }
}

extension Tensor {
  /// The alias-free snake activation; `beta` nil is plain snake.
  public func aliasFreeSnake(alpha: Tensor, beta: Tensor?, logScale: Bool) throws(TensorError) -> Tensor {
    try graph.apply(AliasFreeSnake(logScale: logScale), [self, alpha, beta ?? alpha])[0]
  }
}
