extension RowProgram {
  /// The program of an elementwise op alone, which reads its inputs in order; `nil` for other ops.
  package init?(elementwise op: any RowOp, _ inputs: [[Int]]) {
    guard case .elementwise(let patterns) = op.form(inputs), let shape = try? op.outputShapes(inputs).first
    else { return nil }
    let output = Value(node: inputs.count, output: 0)
    var builder = RowBuilder(rows: shape.elements, width: 1, outputs: [output])
    let registers = patterns.enumerated().map { input, pattern in
      builder.operand(Value(node: input, output: 0), .full, pattern)
    }
    op.lower(registers, as: [output], .full, in: &builder)
    self = builder.finish()
  }
}
