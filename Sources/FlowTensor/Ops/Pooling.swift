/// Windows of rows and columns; each pair is for rows, then columns.
public struct PoolShape: Sendable, Hashable {
  /// The window.
  public let window: [Int]
  /// Samples between outputs.
  public let stride: [Int]
  /// Samples around the input that no maximum takes and that count as zeros in a mean.
  public let padding: [Int]
  /// Windows side by side unless said. Each list has two numbers.
  public init(_ window: [Int], stride: [Int]? = nil, padding: [Int] = [0, 0]) {
    self.window = window
    self.stride = stride ?? window
    self.padding = padding
  }

  func output(_ op: any Op, _ shapes: [[Int]], _ shape: [Int]) throws(TensorError) -> [Int] {
    try op.require(
      [window, stride, padding].allSatisfy { $0.count == 2 },
      "window, stride and padding have two numbers each")
    try op.require(
      (window + stride).allSatisfy { $0 > 0 && $0 < 1 << 31 }
        && zip(padding, window).allSatisfy { $0 >= 0 && 2 * $0 <= $1 },
      "window \(window) and stride \(stride) must be positive, padding \(padding) at most half a window")
    try op.require(shape.count >= 2, shapes, "it has rows and columns")
    let size = shape.suffix(2).enumerated().map { $1 + 2 * padding[$0] - window[$0] }
    try op.require(
      size.allSatisfy { $0 >= 0 }, shapes, "a window of \(window) fits, with a padding of \(padding)")
    return shape.dropLast(2) + size.enumerated().map { $1 / stride[$0] + 1 }
  }

  /// Calls `body` for each output with the position in the input of its largest element: of equals the first, NaN wins.
  func forEachLargest(_ shape: [Int], _ output: [Int], _ x: [Double], _ body: (Int, Int) -> Void) {
    let (height, width) = (shape[shape.count - 2], shape[shape.count - 1])
    let planes = Array(shape.dropLast(2)).elements
    Broadcast.forEachIndex([planes] + output.suffix(2)) { i in
      var best: Int?
      for k in 0..<window[0] * window[1] {
        let row = i[1] * stride[0] - padding[0] + k / window[1]
        let column = i[2] * stride[1] - padding[1] + k % window[1]
        guard (0..<height).contains(row), (0..<width).contains(column) else { continue }
        let at = (i[0] * height + row) * width + column
        if let known = best, !(x[at] > x[known] || (x[at].isNaN && !x[known].isNaN)) { continue }
        best = at
      }
      body((i[0] * output[output.count - 2] + i[1]) * output[output.count - 1] + i[2], best ?? 0)
    }
  }
}

/// From each window of the last two axes of `values`, the element where `keys` (of the same shape) is largest. With both
/// the same tensor it is maximum pooling.
package struct WindowTake: Op {
  /// The windows.
  package let geometry: PoolShape
  package var name: String { "max-pool" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(inputs[0] == inputs[1], inputs, "keys and values are alike")
    return [try geometry.output(self, inputs, inputs[0])]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let keys = context.inputs[0]
    return [nil, try keys.graph.apply(WindowPut(geometry: geometry), [keys, context.g])[0]]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let output = (try? geometry.output(self, shapes, shapes[0])) ?? []
    var result = [Double](repeating: 0, count: output.elements)
    geometry.forEachLargest(shapes[0], output, inputs[0]) { result[$0] = inputs[1][$1] }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    outputs[0].elements * geometry.window.elements
  }
}

/// The transpose of `WindowTake` in the values: inputs keys, and g of its output's shape.
package struct WindowPut: Op {
  /// The windows.
  package let geometry: PoolShape
  package var name: String { "max-pool-back" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    try require(
      try geometry.output(self, inputs, inputs[0]) == inputs[1], inputs, "there is an element for each window"
    )
    return [inputs[0]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let keys = context.inputs[0]
    return [nil, try keys.graph.apply(WindowTake(geometry: geometry), [keys, context.g])[0]]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    var result = [Double](repeating: 0, count: shapes[0].elements)
    geometry.forEachLargest(shapes[0], shapes[1], inputs[0]) { result[$1] += inputs[1][$0] }
    return [result]
  }
}

extension Tensor {
  /// The largest of each window of the last two axes: [..., H, W] -> [..., H', W'].
  public func maxPool2d(_ geometry: PoolShape) throws(TensorError) -> Tensor {
    try graph.apply(WindowTake(geometry: geometry), [self, self])[0]
  }

  /// The largest of each window of the last axis.
  public func maxPool1d(_ window: Int, stride: Int? = nil, padding: Int = 0) throws(TensorError) -> Tensor {
    try alongRow(window, stride, padding) { (x, shape) throws(TensorError) in try x.maxPool2d(shape) }
  }

  /// The mean of each window of the last two axes, zeros around the input counted in.
  public func averagePool2d(_ geometry: PoolShape) throws(TensorError) -> Tensor {
    try require(rank >= 2 && geometry.window.count == 2, "average pool", "it has rows and columns")
    let area = geometry.window.elements
    let weight = try graph.constant(
      [Float](repeating: 1 / Float(Swift.max(1, area)), count: area), [1, 1] + geometry.window)
    let planes = try reshaped([Array(shape.dropLast(2)).elements, 1] + shape.suffix(2))
    let y = try planes.conv2d(
      weight, nil, ConvolutionShape2D(stride: geometry.stride, padding: geometry.padding))
    return try y.reshaped(shape.dropLast(2) + y.shape.suffix(2))
  }

  /// The mean of each window of the last axis, zeros around the input counted in.
  public func averagePool1d(_ window: Int, stride: Int? = nil, padding: Int = 0) throws(TensorError) -> Tensor
  {
    try alongRow(window, stride, padding) { (x, shape) throws(TensorError) in try x.averagePool2d(shape) }
  }

  private func alongRow(
    _ window: Int, _ stride: Int?, _ padding: Int,
    _ pool: (Tensor, PoolShape) throws(TensorError) -> Tensor
  ) throws(TensorError) -> Tensor {
    try require(rank >= 1, "pool", "it has a last axis")
    let rows = try reshaped(shape.dropLast() + [1, shape[rank - 1]])
    let y = try pool(rows, PoolShape([1, window], stride: [1, stride ?? window], padding: [0, padding]))
    return try y.reshaped(shape.dropLast() + [y.shape[y.rank - 1]])
  }
}
