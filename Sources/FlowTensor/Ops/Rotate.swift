/// Rotates the pairs (a, b) of elements j and j + W/2 of each row by their angles, whose cosines and sines are given: to
/// (a cos - b sin, b cos + a sin). Rotary positions (Su et al. 2021), the halves of a row as Llama has them.
///
/// Inputs: x [..., W], W even; tables [..., W/2], each of which can be broadcast to x's leading axes.
package struct Rotate: Op {
  /// Turns back.
  package let inverse: Bool
  /// The widest row.
  static let mostWidth = 4096
  package init(inverse: Bool = false) { self.inverse = inverse }
  package var name: String { inverse ? "rotate-back" : "rotate" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 3)
    let (x, width) = (inputs[0], inputs[0].last ?? 0)
    try require(
      (1..<Pattern.mostAxes).contains(x.count) && width % 2 == 0 && (2...Rotate.mostWidth).contains(width),
      inputs, "a row is of an even number of elements, at most \(Rotate.mostWidth)")
    for table in inputs[1...] {
      try require(
        table.count == x.count && table.last == width / 2
          && zip(table, x).dropLast().allSatisfy { $0 == $1 || $0 == 1 },
        inputs, "cosines and sines are [..., \(width / 2)], with 1 where they are repeated")
    }
    return [x]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 3 * inputs[0].elements }

  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, cos, sin, g) = (context.inputs[0], context.inputs[1], context.inputs[2], try context.g)
    let (halves, axis) = (Array(x.shape.dropLast()) + [2, cos.shape[x.rank - 1]], x.rank - 1)
    func table(_ flow: Tensor, like table: Tensor) throws(TensorError) -> Tensor {
      try flow.sum([axis]).reshaped(x.shape.dropLast() + [halves[axis + 1]]).reduced(to: table.shape)
    }
    let (gs, xs) = (try g.reshaped(halves), try x.reshaped(halves))
    let signs = try g.graph.constant(inverse ? [1, -1] : [-1, 1], [2, 1])
    return [
      try g.graph.apply(Rotate(inverse: !inverse), [g, cos, sin])[0], try table(gs * xs, like: cos),
      try table(gs * xs.flipped([axis]) * signs, like: sin),
    ]
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (width, half) = (shapes[0].last ?? 0, (shapes[0].last ?? 0) / 2)
    let pairs = shapes[0].dropLast() + [half]
    let steps = shapes[1...].map { Broadcast.strides(of: $0, in: Array(pairs)) }
    var result = inputs[0]
    var pair = 0
    Broadcast.forEachIndex(Array(pairs)) { index in
      let at = steps.map { zip(index, $0).reduce(0) { $0 + $1.0 * $1.1 } }
      let (cos, sin) = (inputs[1][at[0]], inputs[2][at[1]] * (inverse ? -1 : 1))
      let first = pair / half * width + pair % half
      let (a, b) = (inputs[0][first], inputs[0][first + half])
      (result[first], result[first + half]) = (a * cos - b * sin, b * cos + a * sin)
      pair += 1
    }
    return [result]
  }
}

extension Rotate: RowOp {
  package var isAlwaysFused: Bool { true }
  package func form(_ inputs: [[Int]]) -> RowForm? {
    let (lead, width) = (Array(inputs[0].dropLast()), inputs[0].last ?? 0)
    let halves = lead + [2, width / 2]
    return .rowsBeside(
      width: width,
      tables: inputs[1...].map { table in
        let strides = Broadcast.strides(of: table.dropLast() + [1, width / 2], in: halves)
        return Pattern(shape: halves, strides: strides)
      })
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    let straight = builder.emit(.binary(.multiply), .full, inputs[0], inputs[1])
    let turned = builder.emit(.binary(.multiply), .full, builder.emit(.turn, .full, inputs[0]), inputs[2])
    builder.emit(.binary(inverse ? .subtract : .add), .full, straight, turned, as: outputs[0])
  }
}

extension Tensor {
  /// The pairs of elements j and j + W/2 of each row of this [..., W], turned by angles whose cosines and sines, [..., W/2],
  /// are repeated along axes where they have 1.
  public func rotated(cos: Tensor, sin: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Rotate(), [self, cos, sin])[0]
  }
}
