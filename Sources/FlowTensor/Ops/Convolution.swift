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
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 3...3)
    let (x, w) = (inputs[0], inputs[1])
    try require(x[1] == w[1], inputs, "x [B, in, T] has a weight [out, in, K]")
    return [[x[0], w[0], try geometry.check(self, inputs, length: x[2], taps: w[2])]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], try context.g)
    return [
      try x.graph.apply(ConvolveBack(geometry: geometry, length: x.shape[2]), [g, w])[0],
      try x.graph.apply(ConvolveWeight(geometry: geometry, taps: w.shape[2]), [x, g])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let length = geometry.outputLength(shapes[0][2], taps: shapes[1][2])
    var result = [Double](repeating: 0, count: shapes[0][0] * shapes[1][0] * length)
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
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 3...3)
    let (g, w) = (inputs[0], inputs[1])
    try require(g[1] == w[0], inputs, "x [B, in, T] has a weight [in, out, K]")
    try require(
      try geometry.check(self, inputs, length: length, taps: w[2]) == g[2], inputs,
      "a convolution of \(length) samples gives the first's length")
    return [[g[0], w[1], length]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], try context.g)
    return [
      try x.graph.apply(Convolve(geometry: geometry), [g, w])[0],
      try x.graph.apply(ConvolveWeight(geometry: geometry, taps: w.shape[2]), [g, x])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let x = [shapes[0][0], shapes[1][1], length]
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
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 3...3)
    let (x, g) = (inputs[0], inputs[1])
    let length = try geometry.check(self, inputs, length: x[2], taps: taps)
    try require(
      x[0] == g[0] && g[2] == length, inputs,
      "a convolution of the first with \(taps) taps has the second's batch and length")
    return [[g[1], x[1], taps]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, g, h) = (context.inputs[0], context.inputs[1], try context.g)
    return [
      try x.graph.apply(ConvolveBack(geometry: geometry, length: x.shape[2]), [g, h])[0],
      try x.graph.apply(Convolve(geometry: geometry), [x, h])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let w = [shapes[1][1], shapes[0][1], taps]
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
  /// The output's length for `length` inputs and `taps`.
  func check(
    _ op: any Op, _ shapes: [[Int]], length: Int, taps: Int
  ) throws(TensorError) -> Int {
    try op.require(
      stride > 0 && dilation > 0 && padding >= 0 && max(stride, dilation, padding) < 1 << 31,
      "stride \(stride) and dilation \(dilation) must be positive, padding \(padding) not negative")
    try op.require(taps > 0, shapes, "there is at least one tap")
    try op.require(
      length + 2 * padding > dilation * (taps - 1), shapes,
      "\(taps) taps at dilation \(dilation) fit into \(length) samples with a padding of \(padding)")
    return outputLength(length, taps: taps)
  }

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
  /// One-dimensional convolution: x [B, in, T], weight [out, in / groups, K], bias [out] -> [B, out, T'].
  public func conv1d(
    _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1,
    groups: Int = 1
  ) throws(TensorError) -> Tensor {
    if groups == 1 {
      let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
      return try graph.apply(Convolve(geometry: geometry), [self, weight])[0].adding(bias: bias)
    }
    // Groups: an image of one row.
    let (x, w) = try (asRow("conv1d", weight), weight.asRow("conv1d", self))
    let geometry = ConvolutionShape2D(
      stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups: groups)
    return try x.conv2d(w, bias, geometry).withoutRow()
  }

  /// As `conv1d`; what is put around x is of `mode`.
  package func conv1d(
    _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int, mode: Pad.Mode, dilation: Int = 1,
    groups: Int = 1
  ) throws(TensorError) -> Tensor {
    try padded(axis: rank - 1, before: padding, after: padding, mode: mode)
      .conv1d(weight, bias, stride: stride, dilation: dilation, groups: groups)
  }

  /// Transposed one-dimensional convolution: x [B, in, T], weight [in, out / groups, K], bias [out] ->
  /// [B, out, (T-1)·stride - 2·padding + dilation·(K-1) + 1 + outputPadding].
  public func convTranspose1d(
    _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1,
    groups: Int = 1, outputPadding: Int = 0
  ) throws(TensorError) -> Tensor {
    let name = "transposed conv1d"
    try require(rank == 3 && weight.rank == 3, name, "both have rank 3", others: [weight.shape])
    if groups == 1 {
      let length =
        (shape[2] - 1) * stride - 2 * padding + dilation * (weight.shape[2] - 1) + 1 + outputPadding
      let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
      let op = ConvolveBack(geometry: geometry, length: length)
      return try graph.apply(op, [self, weight])[0].adding(bias: bias)
    }
    let geometry = ConvolutionShape2D(
      stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups: groups)
    return try asRow(name, weight).convTranspose2d(
      weight.asRow(name, self), bias, geometry, outputPadding: [0, outputPadding]
    ).withoutRow()
  }

  /// [A, B, T] as [A, B, 1, T].
  func asRow(_ op: String, _ other: Tensor) throws(TensorError) -> Tensor {
    try require(rank == 3, op, "both have rank 3", others: [other.shape])
    return try reshaped([shape[0], shape[1], 1, shape[2]])
  }

  /// [A, B, 1, T] as [A, B, T].
  func withoutRow() throws(TensorError) -> Tensor { try reshaped([shape[0], shape[1], shape[3]]) }

  /// With a bias [channels], if there is one, added to [B, channels, ...].
  func adding(bias: Tensor?) throws(TensorError) -> Tensor {
    guard let bias else { return self }
    try require(bias.shape == [shape[1]], "bias", "it has a number per channel", others: [bias.shape])
    return try self + bias.reshaped([1, shape[1]] + [Int](repeating: 1, count: rank - 2))
  }
}
