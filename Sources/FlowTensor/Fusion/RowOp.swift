/// How a use of an op can take part in a fused group, seen from its shapes.
package enum RowForm: Sendable {
  /// Each element of the output from one element of each input, found by its pattern over the output's index.
  case elementwise([Pattern])
  /// All inputs lie densely in rows of `width`; the outputs have the given extents.
  case rows(width: Int, outputs: [RowProgram.Extent])
  /// The first input lies densely in rows of `width`, as the output does; the others are tables from outside, found by their
  /// patterns.
  case rowsBeside(width: Int, tables: [Pattern])
  /// The sum over all but the last `width` elements.
  case columns(width: Int)
  /// The sum of everything.
  case total
}

/// An op that can be part of a fused group: it says how it lies over the group's rows and which instructions it is.
package protocol RowOp: Op {
  /// Whether it is a group of its own when nothing is fused with it: it has no other kernel.
  var isAlwaysFused: Bool { get }
  /// How it takes part with inputs of these shapes; `nil` when it can't.
  func form(_ inputs: [[Int]]) -> RowForm?
  /// Emits its instructions. `inputs` are registers; the first output is `outputs[0]`, of the extent `extent`.
  func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder)
}

extension RowOp {
  /// No: it has a kernel of its own.
  package var isAlwaysFused: Bool { false }
}

extension Unary: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? { .elementwise([Pattern(dense: inputs[0])]) }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    builder.emit(.unary(function), extent, inputs[0], as: outputs[0])
  }
}

extension Affine: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? { .elementwise([Pattern(dense: inputs[0])]) }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    builder.emit(.affine(scale: scale, offset: offset), extent, inputs[0], as: outputs[0])
  }
}

extension Binary: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? {
    guard let shape = Broadcast.shape(inputs[0], inputs[1]) else { return nil }
    return .elementwise(
      inputs.map { Pattern(shape: shape, strides: Broadcast.strides(of: $0, in: shape)) })
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    builder.emit(.binary(function), extent, inputs[0], inputs[1], as: outputs[0])
  }
}

extension StridedCopy: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? {
    .elementwise([Pattern(shape: shape, strides: strides, offset: offset)])
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    if builder.extent(inputs[0]) == .small, extent == .full {
      builder.emit(.expand, extent, inputs[0], as: outputs[0])
    } else {
      builder.rename(inputs[0], as: outputs[0])
    }
  }
}

extension Sum: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? {
    let shape = inputs[0]
    let summed = axes.filter { shape[$0] != 1 }
    let kept = shape.indices.filter { shape[$0] != 1 && !axes.contains($0) }
    guard let first = summed.first, let last = summed.last else { return nil }
    if kept.isEmpty { return .total }
    if kept.allSatisfy({ $0 < first }) {
      return .rows(width: summed.reduce(1) { $0 * shape[$1] }, outputs: [.small])
    }
    if kept.allSatisfy({ $0 > last }) { return .columns(width: kept.reduce(1) { $0 * shape[$1] }) }
    return nil
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    let code: RowProgram.Code =
      switch extent {
      case .columns: .columnSum
      case .total: .totalSum
      case .full, .small: .rowSum
      }
    builder.emit(code, extent, inputs[0], as: outputs[0])
  }
}

extension Softmax: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? {
    guard let width = inputs[0].last, width > 0 else { return nil }
    return .rows(width: width, outputs: [.full])
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    let top = builder.emit(.rowMaximum, .small, inputs[0])
    let below = builder.emit(.binary(.subtract), .full, inputs[0], top)
    let power = builder.emit(.unary(.exp), .full, below)
    let scale = builder.emit(.unary(.reciprocal), .small, builder.emit(.rowSum, .small, power))
    builder.emit(.binary(.multiply), .full, power, scale, as: outputs[0])
  }
}

extension RMSNormalize: RowOp {
  package func form(_ inputs: [[Int]]) -> RowForm? {
    guard let width = inputs[0].last, width > 0 else { return nil }
    return .rows(width: width, outputs: [.full, .small])
  }
  package func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    let width = Float(builder.program.width)
    let sum = builder.emit(.rowSum, .small, builder.emit(.unary(.square), .full, inputs[0]))
    let square = builder.emit(.affine(scale: 1 / width, offset: epsilon), .small, sum)
    let scale = builder.emit(
      .unary(.reciprocal), .small, builder.emit(.unary(.sqrt), .small, square), as: outputs[1])
    builder.emit(.binary(.multiply), .full, inputs[0], scale, as: outputs[0])
  }
}
