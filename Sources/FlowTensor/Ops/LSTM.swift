/// One direction of a long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000) over all steps. Inputs:
/// the steps' share of the gates [T, B, 4H] (input, forget, cell, output, as torch orders them), the recurrent weight
/// [4H, H], h and c before the first step [B, H]. Outputs: h and c of each step [T, B, H], and the gates' values
/// [T, B, 4H] for the gradient.
package struct LSTM: Op {
  /// Steps go from the last to the first.
  package let reverse: Bool
  package var name: String { "lstm" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 4, inputs, "it takes 4 inputs")
    let (x, w) = (inputs[0], inputs[1])
    try require(
      x.count == 3 && w.count == 2 && w[0] == 4 * w[1] && x[2] == w[0], inputs,
      "gates [T, B, 4H] have a recurrent weight [4H, H]")
    try require(x[0] > 0 && w[1] > 0, inputs, "there is a step and a unit")
    try require(
      inputs[2] == [x[1], w[1]] && inputs[3] == inputs[2], inputs, "h and c are [B, H] before the first step")
    return [[x[0], x[1], w[1]], [x[0], x[1], w[1]], x]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    guard context.upstream[2] == nil else {
      throw .derivative(op: name, problem: "no gradient flows through its gates")
    }
    let (weight, h0, h) = (context.inputs[1], context.inputs[2], context.outputs[0])
    let g = try context.upstreamOrZero()
    let flows = try h.graph.apply(
      LSTMBack(reverse: reverse),
      [g[0], g[1], weight, context.inputs[3], context.outputs[1], context.outputs[2]])
    // The recurrent weight met the state before each step.
    let (steps, units) = (h.shape[0], weight.shape[1])
    let first = try h0.reshaped([1] + h0.shape)
    let rest = try h.sliced(axis: 0, from: reverse ? 1 : 0, count: steps - 1)
    let before = try Tensor.concatenated(
      steps == 1 ? [first] : reverse ? [rest, first] : [first, rest], axis: 0)
    let flat = try flows[0].reshaped([-1, 4 * units])
    return [
      flows[0], try flat.matmul(before.reshaped([-1, units]), transposeSelf: true), flows[1], flows[2],
    ]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (steps, batch, units) = (shapes[0][0], shapes[0][1], shapes[1][1])
    var (h, c) = (inputs[2], inputs[3])
    var hs = [Double](repeating: 0, count: steps * batch * units)
    var (cs, gates) = (hs, inputs[0])
    for step in 0..<steps {
      let t = reverse ? steps - 1 - step : step
      let before = h
      for b in 0..<batch {
        for u in 0..<units {
          let gate = (0..<4).map { k -> Double in
            let at = (t * batch + b) * 4 * units + k * units + u
            let sum = (0..<units).reduce(inputs[0][at]) {
              $0 + inputs[1][(k * units + u) * units + $1] * before[b * units + $1]
            }
            gates[at] = k == 2 ? UnaryFunction.tanh.value(sum) : UnaryFunction.sigmoid.value(sum)
            return gates[at]
          }
          let at = b * units + u
          c[at] = gate[1] * c[at] + gate[0] * gate[2]
          h[at] = gate[3] * UnaryFunction.tanh.value(c[at])
        }
      }
      hs.replaceSubrange(t * h.count..<(t + 1) * h.count, with: h)
      cs.replaceSubrange(t * c.count..<(t + 1) * c.count, with: c)
    }
    return [hs, cs, gates]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 2 * inputs[0].elements * inputs[1][1] }
}

/// The gradients of `LSTM`: inputs those of h and c [T, B, H], the recurrent weight, c before the first step, and the c
/// and gates that `LSTM` gave; outputs those of the steps' share of the gates [T, B, 4H] and of h and c before the first
/// step [B, H].
package struct LSTMBack: Op {
  /// As in `LSTM`.
  package let reverse: Bool
  package var name: String { "lstm-back" }
  package var isProduct: Bool { true }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 6, inputs, "it takes 6 inputs")
    let state = inputs[3]
    try require(state.count == 2, inputs, "c is [B, H] before the first step")
    let outputs = try LSTM(reverse: reverse).outputShapes([inputs[5], inputs[2], state, state])
    try require(
      inputs[0] == outputs[0] && inputs[1] == outputs[1] && inputs[4] == outputs[1], inputs,
      "the gradients of h and c are like them")
    return [inputs[5], state, state]
  }
  /// Not differentiable again.
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "there is no second derivative")
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (steps, batch, units) = (shapes[5][0], shapes[5][1], shapes[2][1])
    var d = [Double](repeating: 0, count: inputs[5].count)
    var dh = [Double](repeating: 0, count: batch * units)
    var dc = dh
    for step in (0..<steps).reversed() {
      let t = reverse ? steps - 1 - step : step
      var next = [Double](repeating: 0, count: dh.count)
      for b in 0..<batch {
        for u in 0..<units {
          let (at, row) = (b * units + u, (t * batch + b) * 4 * units + u)
          let gate = (0..<4).map { inputs[5][row + $0 * units] }
          let place = t * batch * units + at
          let before = step == 0 ? inputs[3][at] : inputs[4][place + (reverse ? 1 : -1) * batch * units]
          let bent = UnaryFunction.tanh.value(inputs[4][place])
          let gh = inputs[0][place] + dh[at]
          let gc = inputs[1][place] + dc[at] + gh * gate[3] * (1 - bent * bent)
          d[row] = gc * gate[2] * gate[0] * (1 - gate[0])
          d[row + units] = gc * before * gate[1] * (1 - gate[1])
          d[row + 2 * units] = gc * gate[0] * (1 - gate[2] * gate[2])
          d[row + 3 * units] = gh * bent * gate[3] * (1 - gate[3])
          dc[at] = gc * gate[1]
          for k in 0..<4 {
            for v in 0..<units {
              next[b * units + v] += d[row + k * units] * inputs[2][(k * units + u) * units + v]
            }
          }
        }
      }
      dh = next
    }
    return [d, dh, dc]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 2 * inputs[5].elements * inputs[2][1] }
}

/// What `Tensor.lstm` gives.
public struct LSTMResult {
  /// The last layer's h at each step [T, B, H], or [T, B, 2H] of both directions.
  public let y: Tensor
  /// Each layer's and direction's h after its last step [layers · directions, B, H].
  public let h: Tensor
  /// c likewise.
  public let c: Tensor
}

extension Tensor {
  /// A long short-term memory over this [T, B, in], all states 0 before the first step. `parameter` gives weights by
  /// torch's names, such as `weight_ih_l0` [4H, in], `weight_hh_l0_reverse` [4H, H], `bias_ih_l1` [4H].
  public func lstm(
    layers: Int = 1, bidirectional: Bool = false, parameter: (String) throws(TensorError) -> Tensor
  ) throws(TensorError) -> LSTMResult {
    try require(
      rank == 3 && layers > 0 && shape[0] > 0, "lstm", "it is [T, B, in] with a step, of a layer at least")
    var (y, lastH, lastC): (Tensor, [Tensor], [Tensor]) = (self, [], [])
    for layer in 0..<layers {
      var directions: [Tensor] = []
      for reverse in bidirectional ? [false, true] : [false] {
        let suffix = "_l\(layer)" + (reverse ? "_reverse" : "")
        let weight = try parameter("weight_hh" + suffix)
        try weight.require(weight.rank == 2, "lstm", "its recurrent weight is [4H, H]")
        let gates =
          try y.linear(parameter("weight_ih" + suffix), parameter("bias_ih" + suffix))
          + parameter("bias_hh" + suffix)
        let zero = try graph.constant(0).broadcast(to: [shape[1], weight.shape[1]])
        let states = try graph.apply(LSTM(reverse: reverse), [gates, weight, zero, zero])
        directions.append(states[0])
        let last = reverse ? 0 : shape[0] - 1
        try lastH.append(states[0].sliced(axis: 0, from: last, count: 1))
        try lastC.append(states[1].sliced(axis: 0, from: last, count: 1))
      }
      y = try Tensor.concatenated(directions, axis: 2)
    }
    return LSTMResult(
      y: y, h: try Tensor.concatenated(lastH, axis: 0), c: try Tensor.concatenated(lastC, axis: 0))
  }
}
