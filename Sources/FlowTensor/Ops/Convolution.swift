/// The geometry of a one-dimensional convolution (cross-correlation, as in all deep-learning libraries).
public struct ConvolutionShape: Sendable, Hashable {
  /// Samples between outputs.
  public let stride: Int
  /// Zeros on both sides.
  public let padding: Int
  /// Samples between taps.
  public let dilation: Int
  /// The usual geometry unless said.
  public init(stride: Int = 1, padding: Int = 0, dilation: Int = 1) {
    self.stride = stride
    self.padding = padding
    self.dilation = dilation
  }

  /// Outputs for `length` inputs and `taps`.
  public func outputLength(_ length: Int, taps: Int) -> Int {
    (length + 2 * padding - dilation * (taps - 1) - 1) / stride + 1
  }
}

/// x [B, Cin, T], weight [Cout, Cin, K] -> [B, Cout, T'].
package struct Convolve: Op {
  /// Stride, padding, dilation.
  package let geometry: ConvolutionShape
  package var name: String { "conv1d" }
  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] {
    let (x, w) = (inputs[0], inputs[1])
    precondition(x.count == 3 && w.count == 3 && x[1] == w[1], "conv1d of \(x) with \(w)")
    return [[x[0], w[0], geometry.outputLength(x[2], taps: w[2])]]
  }
  package func gradients(_ context: GradientContext) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], context.g)
    return [
      x.graph.apply(ConvolveBack(geometry: geometry, length: x.shape[2]), [g, w])[0],
      x.graph.apply(ConvolveWeight(geometry: geometry, taps: w.shape[2]), [x, g])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    var result = [Double](repeating: 0, count: outputShapes(shapes)[0].elements)
    ConvolutionLoop(geometry, x: shapes[0], w: shapes[1]).run { result[$2] += inputs[0][$0] * inputs[1][$1] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * outputs[0].elements * inputs[1][1] * inputs[1][2]
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    geometry.workspace(x: inputs[0], w: inputs[1], outputLength: outputs[0][2])
  }
}

/// The transpose of `Convolve` in x: g [B, Cout, T'], weight [Cout, Cin, K] -> [B, Cin, T]. It is both the gradient of a
/// convolution and a transposed convolution (whose weight torch lays out as [in, out, K], the same thing).
package struct ConvolveBack: Op {
  /// Stride, padding, dilation of the convolution it is the transpose of.
  package let geometry: ConvolutionShape
  /// T.
  package let length: Int
  package var name: String { "conv1d-back" }
  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] {
    let (g, w) = (inputs[0], inputs[1])
    precondition(g.count == 3 && w.count == 3 && g[1] == w[0], "transposed conv1d of \(g) with \(w)")
    precondition(
      geometry.outputLength(length, taps: w[2]) == g[2],
      "transposed conv1d of \(g) with \(w) to length \(length)")
    return [[g[0], w[1], length]]
  }
  package func gradients(_ context: GradientContext) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], context.g)
    return [
      x.graph.apply(Convolve(geometry: geometry), [g, w])[0],
      x.graph.apply(ConvolveWeight(geometry: geometry, taps: w.shape[2]), [g, x])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let x = outputShapes(shapes)[0]
    var result = [Double](repeating: 0, count: x.elements)
    ConvolutionLoop(geometry, x: x, w: shapes[1]).run { result[$0] += inputs[1][$1] * inputs[0][$2] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * inputs[0].elements * inputs[1][1] * inputs[1][2]
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    geometry.workspace(x: outputs[0], w: inputs[1], outputLength: inputs[0][2])
  }
}

/// The gradient of `Convolve` in the weight: x [B, Cin, T], g [B, Cout, T'] -> [Cout, Cin, K].
package struct ConvolveWeight: Op {
  /// Stride, padding, dilation.
  package let geometry: ConvolutionShape
  /// K.
  package let taps: Int
  package var name: String { "conv1d-weight" }
  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] { [[inputs[1][1], inputs[0][1], taps]] }
  package func gradients(_ context: GradientContext) -> [Tensor?] {
    let (x, g, h) = (context.inputs[0], context.inputs[1], context.g)
    return [
      x.graph.apply(ConvolveBack(geometry: geometry, length: x.shape[2]), [g, h])[0],
      x.graph.apply(Convolve(geometry: geometry), [x, h])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let w = outputShapes(shapes)[0]
    var result = [Double](repeating: 0, count: w.elements)
    ConvolutionLoop(geometry, x: shapes[0], w: w).run { result[$1] += inputs[0][$0] * inputs[1][$2] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * inputs[1].elements * outputs[0][1] * taps
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    geometry.workspace(x: inputs[0], w: outputs[0], outputLength: inputs[1][2])
  }
}

extension ConvolutionShape {
  /// Floats of scratch for one batch element: the padded input or the matrix of its columns, and a rearranged weight.
  func workspace(x: [Int], w: [Int], outputLength: Int) -> Int {
    let columns = x[1] * w[2] * outputLength
    let padded = max(x[1], w[0]) * (max(x[2], outputLength) + 4 * dilation * w[2] + 2 * padding + 128)
    return (stride == 1 ? padded : columns) + w.elements + 1024
  }
}

/// Every product of a convolution, once.
struct ConvolutionLoop {
  let geometry: ConvolutionShape
  let x: [Int]
  let w: [Int]
  init(_ geometry: ConvolutionShape, x: [Int], w: [Int]) {
    self.geometry = geometry
    self.x = x
    self.w = w
  }
  /// Calls `body` with the positions in x, the weight, and the output.
  func run(_ body: (Int, Int, Int) -> Void) {
    let length = geometry.outputLength(x[2], taps: w[2])
    for b in 0..<x[0] {
      for o in 0..<w[0] {
        for c in 0..<w[1] {
          for t in 0..<length {
            for k in 0..<w[2] {
              let from = t * geometry.stride + k * geometry.dilation - geometry.padding
              guard from >= 0, from < x[2] else { continue }
              body((b * x[1] + c) * x[2] + from, (o * w[1] + c) * w[2] + k, (b * w[0] + o) * length + t)
            }
          }
        }
      }
    }
  }
}

extension Tensor {
  /// One-dimensional convolution: x [B, in, T], weight [out, in, K], bias [out] -> [B, out, T'].
  public func conv1d(
    _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1
  ) -> Tensor {
    let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
    let y = graph.apply(Convolve(geometry: geometry), [self, weight])[0]
    return bias.map { y + $0.reshaped([1, $0.shape[0], 1]) } ?? y
  }

  /// Transposed one-dimensional convolution: x [B, in, T], weight [in, out, K], bias [out] ->
  /// [B, out, (T-1)·stride - 2·padding + K].
  public func convTranspose1d(_ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0)
    -> Tensor
  {
    let length = (shape[2] - 1) * stride - 2 * padding + weight.shape[2]
    let op = ConvolveBack(geometry: ConvolutionShape(stride: stride, padding: padding), length: length)
    let y = graph.apply(op, [self, weight])[0]
    return bias.map { y + $0.reshaped([1, $0.shape[0], 1]) } ?? y
  }
}
