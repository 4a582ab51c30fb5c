import FlowTensor

extension KernelTable {
  /// A function of each element, alone: the kernel that a group of one would have.
  static func elementwise(_ op: any Op, _ c: StepContext) -> Work? {
    guard elementwiseStorage(op) != nil, let op = op as? any RowOp, c.areNumbers,
      let program = RowProgram(elementwise: op, c.inputs.map(\.shape))
    else { return nil }
    let source = FusedSource(program, c.inputs, c.outputs)
    let arguments = (c.inputs + c.outputs).map(\.argument)
    return Work(launches: [
      Launch(
        Kernel(text: source.text, "group"), grid: (source.blocks, 1, 1), threads: source.threads, arguments)
    ])
  }

  static func elementwiseStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Unary, is Affine: ([0], [0])
    case is Binary: ([0, 1], [0])
    default: nil
    }
  }
}

extension StepContext {
  /// Whether all values are float32 or bfloat16.
  var areNumbers: Bool { (inputs + outputs).allSatisfy(\.isNumbers) }
}

extension Operand {
  /// Whether it is float32 or bfloat16.
  var isNumbers: Bool { dtype == .float32 || dtype == .bfloat16 }
  /// Whether four elements at once can be accessed.
  var isAligned: Bool { address % UInt64(4 * dtype.size) == 0 }
}
