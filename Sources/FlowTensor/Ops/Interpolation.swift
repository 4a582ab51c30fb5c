/// How samples between samples are found.
public enum Interpolation: String, Sendable, CaseIterable {
  /// The sample at or before the place i · N / M.
  case nearest
  /// Between the two neighbours of (i + ½) · N / M - ½ (torch's `align_corners=False`); the ends repeat.
  case linear

  /// For each of `to` outputs of `from` samples: the two that it is between, and how far it is from the first. In single
  /// precision, as torch finds them.
  package func table(from: Int, to: Int) -> (first: [Int32], second: [Int32], share: [Float]) {
    let step = Float(from) / Float(to)
    var (first, second, share): ([Int32], [Int32], [Float]) = ([], [], [])
    for i in 0..<to {
      let place = self == .nearest ? Float(i) * step : max(0, step * (Float(i) + 0.5) - 0.5)
      let low = min(Int(place), from - 1)
      first.append(Int32(low))
      second.append(Int32(self == .nearest ? low : min(low + 1, from - 1)))
      share.append(self == .nearest ? 0 : place - Float(low))
    }
    return (first, second, share)
  }
}

/// Another number of samples along an axis: [..., N, ...] -> [..., count, ...].
package struct Resample: Op {
  /// The axis.
  package let axis: Int
  /// M.
  package let count: Int
  /// How.
  package let mode: Interpolation
  package var name: String { "resample-\(mode)" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    var shape = inputs[0]
    try require(shape.indices.contains(axis), inputs, "there is an axis \(axis)")
    try require(count > 0 && count < 1 << 24, "\(count) samples are not a length below 2^24")
    try require((1..<1 << 24).contains(shape[axis]), inputs, "axis \(axis) has samples, fewer than 2^24")
    shape[axis] = count
    return [shape]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let op = ResampleBack(axis: axis, count: context.inputs[0].shape[axis], mode: mode)
    return [try context.inputs[0].graph.apply(op, [context.g])[0]]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let run = AxisRun(shapes[0], axis...axis)
    let table = mode.table(from: run.count, to: count)
    var result: [Double] = []
    for o in 0..<run.outer {
      for k in 0..<count {
        for i in 0..<run.inner {
          let a = inputs[0][(o * run.count + Int(table.first[k])) * run.inner + i]
          let b = inputs[0][(o * run.count + Int(table.second[k])) * run.inner + i]
          result.append(a + (b - a) * Double(table.share[k]))
        }
      }
    }
    return [result]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 3 * outputs[0].elements }
}

/// The transpose of `Resample`: [..., M, ...] -> [..., count, ...].
package struct ResampleBack: Op {
  /// The axis.
  package let axis: Int
  /// N.
  package let count: Int
  /// How.
  package let mode: Interpolation
  package var name: String { "resample-\(mode)-back" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try Resample(axis: axis, count: count, mode: mode).outputShapes(inputs)
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let op = Resample(axis: axis, count: context.inputs[0].shape[axis], mode: mode)
    return [try context.inputs[0].graph.apply(op, [context.g])[0]]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let run = AxisRun(shapes[0], axis...axis)
    let table = mode.table(from: count, to: run.count)
    var result = [Double](repeating: 0, count: run.outer * count * run.inner)
    for (position, g) in inputs[0].enumerated() {
      let (o, k, i) = (
        position / (run.count * run.inner), position / run.inner % run.count, position % run.inner
      )
      result[(o * count + Int(table.first[k])) * run.inner + i] += g * (1 - Double(table.share[k]))
      result[(o * count + Int(table.second[k])) * run.inner + i] += g * Double(table.share[k])
    }
    return [result]
  }
}

extension Tensor {
  /// With `size[i]` samples along the i-th of the last `size.count` axes, one axis after another.
  public func interpolated(_ size: [Int], _ mode: Interpolation) throws(TensorError) -> Tensor {
    try require(size.count <= rank, "interpolate", "\(size) has no more numbers than there are axes")
    var result = self
    for (i, count) in size.enumerated() where result.shape[rank - size.count + i] != count {
      result = try graph.apply(Resample(axis: rank - size.count + i, count: count, mode: mode), [result])[0]
    }
    return result
  }
}
