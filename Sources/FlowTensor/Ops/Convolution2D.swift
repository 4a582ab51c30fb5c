/// The geometry of a two-dimensional convolution in groups; each pair is for rows, then columns.
public struct ConvolutionShape2D: Sendable, Hashable {
  /// Samples between outputs.
  public let stride: [Int]
  /// Zeros on both sides.
  public let padding: [Int]
  /// Samples between taps.
  public let dilation: [Int]
  /// Runs of channels that are convolved apart.
  public let groups: Int
  /// The usual geometry unless said. Each list has two numbers.
  public init(stride: [Int] = [1, 1], padding: [Int] = [0, 0], dilation: [Int] = [1, 1], groups: Int = 1) {
    self.stride = stride
    self.padding = padding
    self.dilation = dilation
    self.groups = groups
  }

  /// Rows (axis 0) or columns (1) of the output, for `length` of the input and `taps`.
  public func outputLength(_ axis: Int, _ length: Int, taps: Int) -> Int {
    (length + 2 * padding[axis] - dilation[axis] * (taps - 1) - 1) / stride[axis] + 1
  }

  /// The output of x [B, in, H, W] with the weight w [out, in / groups, KH, KW].
  func output(_ op: any Op, _ shapes: [[Int]], x: [Int], w: [Int]) throws(TensorError) -> [Int] {
    let lists = [stride, padding, dilation]
    try op.require(lists.allSatisfy { $0.count == 2 }, "stride, padding and dilation have two numbers each")
    try op.require(
      (stride + dilation).allSatisfy { $0 > 0 } && padding.allSatisfy { $0 >= 0 } && groups > 0
        && lists.joined().allSatisfy { $0 < 1 << 31 },
      "stride \(stride), dilation \(dilation) and groups \(groups) must be positive, padding \(padding) not negative"
    )
    try op.require(
      x[1] == w[1] * groups && w[0] % groups == 0, shapes,
      "x [B, in, H, W] has a weight [out, in / \(groups), KH, KW], \(groups) dividing out")
    try op.require(w[2] > 0 && w[3] > 0, shapes, "there is at least one tap")
    for axis in 0..<2 {
      try op.require(
        x[2 + axis] + 2 * padding[axis] > dilation[axis] * (w[2 + axis] - 1), shapes,
        "\(w[2 + axis]) taps at dilation \(dilation[axis]) fit into \(x[2 + axis]) samples with a padding of "
          + "\(padding[axis])")
    }
    return [x[0], w[0], outputLength(0, x[2], taps: w[2]), outputLength(1, x[3], taps: w[3])]
  }

  /// Calls `body` with the positions in x, the weight, and the output of every product.
  func forEachProduct(x: [Int], w: [Int], _ body: (Int, Int, Int) -> Void) {
    let (height, width) = (outputLength(0, x[2], taps: w[2]), outputLength(1, x[3], taps: w[3]))
    let outputs = w[0] / groups
    Broadcast.forEachIndex([x[0], w[0], w[1], height, width, w[2], w[3]]) { i in
      let row = i[3] * stride[0] + i[5] * dilation[0] - padding[0]
      let column = i[4] * stride[1] + i[6] * dilation[1] - padding[1]
      guard (0..<x[2]).contains(row), (0..<x[3]).contains(column) else { return }
      let channel = i[1] / outputs * w[1] + i[2]
      body(
        ((i[0] * x[1] + channel) * x[2] + row) * x[3] + column,
        ((i[1] * w[1] + i[2]) * w[2] + i[5]) * w[3] + i[6],
        ((i[0] * w[0] + i[1]) * height + i[3]) * width + i[4])
    }
  }
}

/// x [B, in, H, W], weight [out, in / groups, KH, KW] -> [B, out, H', W'].
package struct Convolve2D: Op {
  /// Stride, padding, dilation, groups.
  package let geometry: ConvolutionShape2D
  package var name: String { "conv2d" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 4...4)
    return [try geometry.output(self, inputs, x: inputs[0], w: inputs[1])]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], try context.g)
    let back = Convolve2DBack(geometry: geometry, size: Array(x.shape[2...]))
    return [
      try x.graph.apply(back, [g, w])[0],
      try x.graph.apply(Convolve2DWeight(geometry: geometry, taps: Array(w.shape[2...])), [x, g])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (x, w) = (shapes[0], shapes[1])
    let size = [geometry.outputLength(0, x[2], taps: w[2]), geometry.outputLength(1, x[3], taps: w[3])]
    var result = [Double](repeating: 0, count: x[0] * w[0] * size[0] * size[1])
    geometry.forEachProduct(x: x, w: w) { result[$2] += inputs[0][$0] * inputs[1][$1] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * outputs[0].elements * Array(inputs[1][1...]).elements
  }
}

/// The transpose of `Convolve2D` in x: g [B, out, H', W'], weight [out, in / groups, KH, KW] -> [B, in, H, W]. It is both
/// the gradient of a convolution and a transposed convolution.
package struct Convolve2DBack: Op {
  /// That of the convolution it is the transpose of.
  package let geometry: ConvolutionShape2D
  /// [H, W].
  package let size: [Int]
  package var name: String { "conv2d-back" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 4...4)
    let (g, w) = (inputs[0], inputs[1])
    try require(size.count == 2 && size.allSatisfy { $0 > 0 }, "a result of \(size) has rows and columns")
    let x = [g[0], w[1] * geometry.groups] + size
    try require(
      try geometry.output(self, inputs, x: x, w: w) == g, inputs,
      "a convolution of \(x) with the second gives the first's shape")
    return [x]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, w, g) = (context.inputs[0], context.inputs[1], try context.g)
    return [
      try x.graph.apply(Convolve2D(geometry: geometry), [g, w])[0],
      try x.graph.apply(Convolve2DWeight(geometry: geometry, taps: Array(w.shape[2...])), [g, x])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let x = [shapes[0][0], shapes[1][1] * geometry.groups] + size
    var result = [Double](repeating: 0, count: x.elements)
    geometry.forEachProduct(x: x, w: shapes[1]) { result[$0] += inputs[1][$1] * inputs[0][$2] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * inputs[0].elements * Array(inputs[1][1...]).elements
  }
}

/// The gradient of `Convolve2D` in the weight: x [B, in, H, W], g [B, out, H', W'] -> [out, in / groups, KH, KW].
package struct Convolve2DWeight: Op {
  /// Stride, padding, dilation, groups.
  package let geometry: ConvolutionShape2D
  /// [KH, KW].
  package let taps: [Int]
  package var name: String { "conv2d-weight" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 4...4)
    let (x, g) = (inputs[0], inputs[1])
    try require(taps.count == 2 && geometry.groups > 0, "taps \(taps) are rows and columns, in groups")
    let w = [g[1], x[1] / geometry.groups] + taps
    try require(
      try geometry.output(self, inputs, x: x, w: w) == g, inputs,
      "a convolution of the first with \(taps) taps has the second's shape")
    return [w]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, g, h) = (context.inputs[0], context.inputs[1], try context.g)
    return [
      try x.graph.apply(Convolve2DBack(geometry: geometry, size: Array(x.shape[2...])), [g, h])[0],
      try x.graph.apply(Convolve2D(geometry: geometry), [x, h])[0],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let w = [shapes[1][1], shapes[0][1] / geometry.groups] + taps
    var result = [Double](repeating: 0, count: w.elements)
    geometry.forEachProduct(x: shapes[0], w: w) { result[$1] += inputs[0][$0] * inputs[1][$2] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    2 * inputs[1].elements * Array(outputs[0][1...]).elements
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    Convolve2DWeight.slices * outputs[0].elements
  }
  /// Partial sums at most.
  package static let slices = 4
}

extension Tensor {
  /// Two-dimensional convolution: x [B, in, H, W], weight [out, in / groups, KH, KW], bias [out] -> [B, out, H', W'].
  /// What is put around x is of `mode`.
  package func conv2d(
    _ weight: Tensor, _ bias: Tensor? = nil, _ geometry: ConvolutionShape2D = ConvolutionShape2D(),
    mode: Pad.Mode
  ) throws(TensorError) -> Tensor {
    try require(rank == 4 && geometry.padding.count == 2, "conv2d", "it is [B, in, H, W]")
    let wide = try padded(last: geometry.padding[1], mode).permuted([0, 1, 3, 2])
      .padded(last: geometry.padding[0], mode).permuted([0, 1, 3, 2])
    let bare = ConvolutionShape2D(
      stride: geometry.stride, dilation: geometry.dilation, groups: geometry.groups)
    return try wide.conv2d(weight, bias, bare)
  }

  private func padded(last count: Int, _ mode: Pad.Mode) throws(TensorError) -> Tensor {
    try padded(axis: rank - 1, before: count, after: count, mode: mode)
  }

  /// Two-dimensional convolution: x [B, in, H, W], weight [out, in / groups, KH, KW], bias [out] -> [B, out, H', W'].
  public func conv2d(
    _ weight: Tensor, _ bias: Tensor? = nil, _ geometry: ConvolutionShape2D = ConvolutionShape2D()
  ) throws(TensorError) -> Tensor {
    try graph.apply(Convolve2D(geometry: geometry), [self, weight])[0].adding(bias: bias)
  }

  /// Transposed two-dimensional convolution: x [B, in, H, W], weight [in, out / groups, KH, KW], bias [out] ->
  /// [B, out, (H-1)·stride - 2·padding + dilation·(KH-1) + 1 + outputPadding, likewise].
  public func convTranspose2d(
    _ weight: Tensor, _ bias: Tensor? = nil, _ geometry: ConvolutionShape2D = ConvolutionShape2D(),
    outputPadding: [Int] = [0, 0]
  ) throws(TensorError) -> Tensor {
    try require(
      rank == 4 && weight.rank == 4 && outputPadding.count == 2, "transposed conv2d", "both have rank 4",
      others: [weight.shape])
    let size = (0..<2).map { axis -> Int in
      let reach = geometry.dilation[axis] * (weight.shape[2 + axis] - 1) + 1
      return (shape[2 + axis] - 1) * geometry.stride[axis] - 2 * geometry.padding[axis] + reach
        + outputPadding[axis]
    }
    return try graph.apply(Convolve2DBack(geometry: geometry, size: size), [self, weight])[0].adding(
      bias: bias)
  }
}
