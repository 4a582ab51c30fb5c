import Foundation

/// Connectionist temporal classification (Graves et al. 2006): the negative log of the probability that labels come in their
/// order, each at one step or more, with blanks (class 0) where nothing comes, a blank between two of a kind. Inputs: the
/// logarithms of the classes' probabilities at each step, [B, T, K], and labels int32 [B, U], in which zeros are passed over.
/// Outputs: the losses [B], and how probable it is that a step is at a class given the labels, [B, T, K]. Labels that can't come
/// in so many steps have the loss 0 and no gradient.
package struct CTC: Op {
  package var name: String { "ctc" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    let (x, labels) = (inputs[0], inputs[1])
    try require(
      x.count == 3 && labels.count == 2 && x[0] == labels[0], inputs,
      "log-probabilities are [B, T, K] and labels [B, U]")
    try require(x[1] > 0 && x[2] > 0, inputs, "there is a step and a class")
    return [[x[0]], x]
  }
  package func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs.count == 2, inputs[0] == .float32, inputs[1] == .int32 else {
      throw .dtype(op: name, found: inputs, expected: "log-probabilities are float32 and labels int32")
    }
    return .float32
  }
  package func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { (1, inputs[0][2]) }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let x = context.inputs[0]
    return [try -(context.g.reshaped([x.shape[0], 1, 1]) * context.outputs[1]), nil]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    inputs[0][0] * inputs[0][1] * (2 * inputs[1][1] + 1) * 8
  }
  /// Forward sums of a row's states as doubles, two rows of backward sums, and the states' classes.
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    let states = 2 * inputs[1][1] + 1
    return inputs[0][0] * (2 * states * (inputs[0][1] + 2) + states + 1)
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (batch, steps, classes, width) = (shapes[0][0], shapes[0][1], shapes[0][2], shapes[1][1])
    var losses: [Double] = []
    var occupancy = [Double](repeating: 0, count: batch * steps * classes)
    for b in 0..<batch {
      let labels = inputs[1][b * width..<(b + 1) * width].map { Int($0) }.filter { $0 > 0 }
      let states = [0] + labels.flatMap { [$0, 0] }
      func x(_ t: Int, _ s: Int) -> Double { inputs[0][(b * steps + t) * classes + states[s]] }
      /// Whether a state may come right after the one but one before.
      func skips(_ s: Int) -> Bool { s >= 2 && states[s] != 0 && states[s] != states[s - 2] }
      var forward = [[Double]](
        repeating: [Double](repeating: -.infinity, count: states.count), count: steps)
      var backward = forward
      for s in 0..<min(2, states.count) { forward[0][s] = x(0, s) }
      for t in 1..<max(1, steps) {
        for s in states.indices {
          var from = [forward[t - 1][s]]
          if s >= 1 { from.append(forward[t - 1][s - 1]) }
          if skips(s) { from.append(forward[t - 1][s - 2]) }
          forward[t][s] = CTC.logSum(from) + x(t, s)
        }
      }
      for s in max(0, states.count - 2)..<states.count { backward[steps - 1][s] = 0 }
      for t in (0..<steps - 1).reversed() {
        for s in states.indices {
          var to = [backward[t + 1][s] + x(t + 1, s)]
          if s + 1 < states.count { to.append(backward[t + 1][s + 1] + x(t + 1, s + 1)) }
          if s + 2 < states.count, skips(s + 2) { to.append(backward[t + 1][s + 2] + x(t + 1, s + 2)) }
          backward[t][s] = CTC.logSum(to)
        }
      }
      let total = CTC.logSum(Array(forward[steps - 1].suffix(2)))
      losses.append(total == -.infinity ? 0 : -total)
      guard total != -.infinity else { continue }
      for t in 0..<steps {
        for s in states.indices {
          occupancy[(b * steps + t) * classes + states[s]] += exp(forward[t][s] + backward[t][s] - total)
        }
      }
    }
    return [losses, occupancy]
  }

  /// log Σ exp, in the order given.
  private static func logSum(_ values: [Double]) -> Double {
    let most = values.reduce(-.infinity) { $1 > $0 || $1.isNaN ? $1 : $0 }
    guard most != -.infinity else { return most }
    return most + log(values.reduce(0) { $0 + exp($1 - most) })
  }
}

extension Tensor {
  /// The loss of each row of connectionist temporal classification, [B].
  /// - Parameters:
  ///   - self: scores of the classes at each step, [B, T, K], of which the first is the blank; not yet probabilities.
  ///   - labels: int32 [B, U], from 1 to K - 1; zeros are passed over. Labels that can't come in T steps have the loss 0 and no
  ///     gradient.
  ///   - valid: 1 where a step counts, else 0, [B, T]; every step when left out.
  /// - Throws: `TensorError`.
  public func ctcLoss(_ labels: Tensor, valid: Tensor? = nil) throws(TensorError) -> Tensor {
    guard rank == 3, shape[2] > 0 else {
      throw .shape(op: "ctc", shapes: [shape, labels.shape], expected: "scores are [B, T, K]")
    }
    var x = try self - logSumExp([2]).reshaped([shape[0], shape[1], 1])
    if let valid {
      // A step that doesn't count is a blank for certain.
      let blank = [Float(0)] + [Float](repeating: -.infinity, count: shape[2] - 1)
      x = try valid.reshaped([shape[0], shape[1], 1]).select(x, graph.constant(blank, [shape[2]]))
    }
    return try graph.apply(CTC(), [x, labels])[0]
  }
}
