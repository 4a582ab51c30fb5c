/// The same bytes under another shape.
package struct Reshape: Op {
  let shape: [Int]
  package var name: String { "reshape" }
  package var isView: Bool { true }
  package var takesAnyType: Bool { true }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType { try Cast.unchanged(self, inputs) }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    try require(
      shape.isValid && inputs[0].elements == shape.elements, inputs, "it takes the elements of \(shape)")
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g.reshaped(context.inputs[0].shape)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { [inputs[0]] }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// Puts elements before and after along an axis: zeros, or (last axis only) the edge's or the mirrored elements.
package struct Pad: Op {
  /// What the new elements are. The raw value is the kernel's number.
  package enum Mode: Int32, Sendable, CaseIterable {
    /// Zeros.
    case zero
    /// The edge's element.
    case replicate
    /// The mirrored elements, the edge's own not repeated; a pad must be shorter than the axis.
    case reflect
    /// The elements from the other end; a pad is no longer than the axis.
    case circular
  }
  /// The axis that grows.
  package let axis: Int
  /// New elements in front.
  package let before: Int
  /// New elements behind.
  package let after: Int
  /// What they are.
  package let mode: Mode
  package var name: String { "pad" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    var shape = inputs[0]
    try require(before >= 0 && after >= 0, "it adds \(before) and \(after) elements, which can't be negative")
    try require(shape.indices.contains(axis), inputs, "there is an axis \(axis)")
    try require(
      mode == .zero || axis == shape.count - 1, inputs, "\(mode) is for the last axis, not axis \(axis)")
    try require(mode == .zero || shape[axis] > 0, inputs, "there is an element to repeat")
    try require(
      mode != .reflect || max(before, after) < shape[axis], inputs,
      "a mirrored pad (\(before) and \(after)) is shorter than the axis")
    try require(
      mode != .circular || max(before, after) <= shape[axis], inputs,
      "a circular pad (\(before) and \(after)) is no longer than the axis")
    shape[axis] += before + after
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    if mode == .zero {
      return [try context.g.sliced(axis: axis, from: before, count: context.inputs[0].shape[axis])]
    }
    let op = Unpad(before: before, after: after, mode: mode)
    return [try context.inputs[0].graph.apply(op, [context.g])[0]]
  }
  /// The input position that output position `i` of `count + before + after` takes; `nil` for a zero.
  static func origin(_ i: Int, before: Int, count: Int, mode: Mode) -> Int? {
    let j = i - before
    if j >= 0, j < count { return j }
    switch mode {
    case .zero: return nil
    case .replicate: return j < 0 ? 0 : count - 1
    case .reflect: return j < 0 ? -j : 2 * (count - 1) - j
    case .circular: return j < 0 ? j + count : j - count
    }
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let inner = shapes[0][(axis + 1)...].reduce(1, *)
    let (count, outer) = (shapes[0][axis], shapes[0][..<axis].reduce(1, *))
    var result: [Double] = []
    for o in 0..<outer {
      for i in 0..<count + before + after {
        let from = Pad.origin(i, before: before, count: count, mode: mode)
        for k in 0..<inner { result.append(from.map { inputs[0][(o * count + $0) * inner + k] } ?? 0) }
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// The gradient of `Pad` on the last axis: each new element's gradient is added to where it came from.
package struct Unpad: Op {
  /// As in `Pad`.
  package let before: Int
  /// As in `Pad`.
  package let after: Int
  /// As in `Pad`.
  package let mode: Pad.Mode
  package var name: String { "unpad" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1, ranks: 1...Int.max)
    var shape = inputs[0]
    let count = shape[shape.count - 1] - before - after
    let shortest =
      switch mode {
      case .zero, .replicate: 0
      case .reflect: max(before, after)
      case .circular: max(before, after) - 1
      }
    try require(
      before >= 0 && after >= 0 && count > shortest, inputs,
      "the last axis has a pad of \(before) and \(after)")
    shape[shape.count - 1] = count
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let g = try context.g
    return [try g.padded(axis: g.rank - 1, before: before, after: after, mode: mode)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let wide = shapes[0].last ?? 1
    let count = wide - before - after
    var result = [Double](repeating: 0, count: shapes[0].elements / wide * count)
    for row in 0..<shapes[0].elements / wide {
      for i in 0..<wide {
        guard let to = Pad.origin(i, before: before, count: count, mode: mode) else { continue }
        result[row * count + to] += inputs[0][row * wide + i]
      }
    }
    return [result]
  }
}

/// Cuts the last axis into overlapping frames: [..., T] -> [..., frames, window], frames = (T - window) / hop + 1.
package struct Frame: Op {
  /// Samples of a frame.
  package let window: Int
  /// Samples between frames.
  package let hop: Int
  package var name: String { "frame" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1, ranks: 1...Int.max)
    try require(window > 0 && hop > 0, "a window of \(window) and a hop of \(hop) must be positive")
    let length = inputs[0].last ?? 0
    try require(length >= window, inputs, "the last axis is as long as a window of \(window)")
    return [inputs[0].dropLast() + [(length - window) / hop + 1, window]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let op = OverlapAdd(hop: hop, length: context.inputs[0].shape.last ?? 0)
    return [try context.inputs[0].graph.apply(op, [context.g])[0]]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let length = shapes[0].last ?? 0
    var result: [Double] = []
    for row in 0..<shapes[0].elements / length {
      for f in 0..<(length - window) / hop + 1 {
        result += inputs[0][row * length + f * hop..<row * length + f * hop + window]
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

/// Adds frames back where they came from: [..., frames, window] -> [..., length].
package struct OverlapAdd: Op {
  /// Samples between frames.
  package let hop: Int
  /// Samples of the result.
  package let length: Int
  package var name: String { "overlap-add" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1, ranks: 2...Int.max)
    let (frames, window) = (inputs[0][inputs[0].count - 2], inputs[0][inputs[0].count - 1])
    try require(hop > 0, "a hop of \(hop) must be positive")
    try require(
      frames > 0 && (frames - 1) * hop + window <= length, inputs,
      "[..., frames, window] at a hop of \(hop) are within a length of \(length)")
    return [inputs[0].dropLast(2) + [length]]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let frames = context.inputs[0].shape[context.inputs[0].rank - 2]
    let window = context.inputs[0].shape[context.inputs[0].rank - 1]
    let used = (frames - 1) * hop + window
    let g = try context.g
    return [try g.sliced(axis: g.rank - 1, from: 0, count: used).framed(window: window, hop: hop)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (frames, window) = (shapes[0][shapes[0].count - 2], shapes[0][shapes[0].count - 1])
    let rows = shapes[0].elements / (frames * window)
    var result = [Double](repeating: 0, count: rows * length)
    for row in 0..<rows {
      for f in 0..<frames {
        for i in 0..<window {
          result[row * length + f * hop + i] += inputs[0][(row * frames + f) * window + i]
        }
      }
    }
    return [result]
  }
}

extension Tensor {
  /// The same elements under `shape`; one dimension may be -1.
  public func reshaped(_ shape: [Int]) throws(TensorError) -> Tensor {
    var shape = shape
    if let hole = shape.firstIndex(of: -1) {
      shape[hole] = 1
      shape[hole] = self.shape.elements / max(1, shape.elements)
    }
    return shape == self.shape ? self : try graph.apply(Reshape(shape: shape), [self])[0]
  }

  /// Elements from one index of each axis to the next.
  func rowStrides() -> [Int] {
    var strides = [Int](repeating: 1, count: rank)
    for axis in stride(from: rank - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] * shape[axis + 1]
    }
    return strides
  }

  /// Axis i of the result is axis `order[i]` of this.
  public func permuted(_ order: [Int]) throws(TensorError) -> Tensor {
    try require(order.sorted() == Array(0..<rank), "permute", "the order \(order) names each axis once")
    if order == Array(0..<rank) { return self }
    let strides = rowStrides()
    let op = StridedCopy(
      kind: .permute(order), shape: order.map { shape[$0] }, strides: order.map { strides[$0] }, offset: 0)
    return try graph.apply(op, [self])[0]
  }

  /// Repeated along axes of length 1 (or new outer ones) to `shape`.
  public func broadcast(to shape: [Int]) throws(TensorError) -> Tensor {
    if shape == self.shape { return self }
    try require(Broadcast.shape(self.shape, shape) == shape, "broadcast", "it can be repeated to \(shape)")
    let strides = Broadcast.strides(of: self.shape, in: shape)
    return try graph.apply(StridedCopy(kind: .broadcast, shape: shape, strides: strides, offset: 0), [self])[
      0]
  }

  /// `count` elements along `axis` from `start`.
  public func sliced(axis: Int, from start: Int, count: Int) throws(TensorError) -> Tensor {
    try require(shape.indices.contains(axis), "slice", "there is an axis \(axis)")
    try require(
      start >= 0 && count >= 0 && count <= shape[axis] && start <= shape[axis] - count, "slice",
      "axis \(axis) has \(count) elements from element \(start)")
    if start == 0, count == shape[axis] { return self }
    var shape = self.shape
    shape[axis] = count
    let strides = rowStrides()
    let op = StridedCopy(
      kind: .slice(axis: axis, start: start, count: count), shape: shape, strides: strides,
      offset: start * strides[axis])
    return try graph.apply(op, [self])[0]
  }

  /// With elements put before and after along `axis`.
  package func padded(
    axis: Int, before: Int, after: Int, mode: Pad.Mode = .zero
  ) throws(TensorError) -> Tensor {
    if before == 0, after == 0 { return self }
    return try graph.apply(Pad(axis: axis, before: before, after: after, mode: mode), [self])[0]
  }

  /// Overlapping frames of the last axis: [..., T] -> [..., frames, window].
  public func framed(window: Int, hop: Int) throws(TensorError) -> Tensor {
    try graph.apply(Frame(window: window, hop: hop), [self])[0]
  }

  /// Joined along `axis`.
  public static func concatenated(_ tensors: [Tensor], axis: Int) throws(TensorError) -> Tensor {
    guard let first = tensors.first else {
      throw .argument(op: "concatenate", problem: "there is nothing to join")
    }
    return tensors.count == 1 ? first : try first.graph.apply(Concatenate(axis: axis), tensors)[0]
  }
}
