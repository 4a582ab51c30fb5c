import FlowTensor

extension KernelTable {
  static func optimizer(_ op: any Op, _ c: StepContext) -> Work? {
    (op as? AdamW).flatMap { adamWMany([c], $0) }
  }

  static func optimizerStorage(_ op: any Op) -> Storage? { op is AdamW ? ([1], []) : nil }

  /// AdamW of many tensors as one launch.
  static func adamWMany(_ steps: [StepContext], _ op: AdamW) -> Work? {
    var table: [UInt64] = []
    var pieces: [UInt64] = []
    for (index, c) in steps.enumerated() {
      let floats = [c.inputs[0], c.inputs[2], c.inputs[3], c.inputs[4]] + c.outputs
      let gradient = c.inputs[1]
      guard floats.allSatisfy({ $0.dtype == .float32 }), gradient.isNumbers else { return nil }
      let isWide =
        (floats[..<3] + c.outputs).allSatisfy(\.isAligned) && gradient.isAligned
      table += floats[..<3].map(\.address) + [gradient.address, c.inputs[4].address]
      table += c.outputs.map(\.address) + [UInt64(gradient.count)]
      table.append((gradient.dtype == .bfloat16 ? 1 : 0) | (isWide ? 2 : 0))
      pieces += blocks(of: index, gradient.count, each: 4096)
    }
    guard !pieces.isEmpty else { return Work(launches: []) }
    return Work(launches: [
      Launch(
        Kernel("adamw", "adamw_many"), grid: (pieces.count, 1, 1), threads: 256,
        [
          .table(table), .table(pieces), .float(op.beta1), .float(op.beta2), .float(op.epsilon),
          .float(op.weightDecay),
        ])
    ])
  }

  /// The sum of the squares of each of `tensors` as one launch and one more, to the floats at `totals`.
  static func squaresMany(_ tensors: [Operand], to totals: [UInt64]) -> Work? {
    var (table, pieces): ([UInt64], [UInt64]) = ([], [])
    var firsts: [UInt64] = [0]
    for (index, tensor) in tensors.enumerated() {
      guard tensor.isNumbers else { return nil }
      table += [
        tensor.address, UInt64(tensor.count),
        (tensor.dtype == .bfloat16 ? 1 : 0) | (tensor.address % 16 == 0 ? 2 : 0),
      ]
      pieces += blocks(of: index, tensor.count, each: 8192)
      firsts.append(UInt64(pieces.count))
    }
    var launches = [
      Launch(
        Kernel("adamw", "squares_finish"), grid: (tensors.count, 1, 1), threads: 256,
        [.table(totals), .scratch(0), .table(firsts)])
    ]
    if !pieces.isEmpty {
      launches.insert(
        Launch(
          Kernel("adamw", "squares_many"), grid: (pieces.count, 1, 1), threads: 256,
          [.scratch(0), .table(table), .table(pieces)]), at: 0)
    }
    return Work(launches: launches, scratch: max(4, pieces.count * 4))
  }

  /// Copies in bfloat16, each step one, as one launch; `nil` where a step is another conversion.
  static func narrowMany(_ steps: [StepContext]) -> Work? {
    var (table, pieces): ([UInt64], [UInt64]) = ([], [])
    for (index, c) in steps.enumerated() {
      let (x, y) = (c.inputs[0], c.outputs[0])
      guard x.dtype == .float32, y.dtype == .bfloat16 else { return nil }
      table += [x.address, y.address, UInt64(x.count), (x.address | y.address) % 16 == 0 ? 1 : 0]
      pieces += blocks(of: index, x.count, each: 4096)
    }
    guard !pieces.isEmpty else { return Work(launches: []) }
    return Work(launches: [
      Launch(
        Kernel("narrow", "narrow_many"), grid: (pieces.count, 1, 1), threads: 256,
        [.table(table), .table(pieces)])
    ])
  }

  /// A word for each block: the tensor, and above it the piece of `each` elements.
  private static func blocks(of index: Int, _ count: Int, each: Int) -> [UInt64] {
    (0..<(count + each - 1) / each).map { UInt64(index) | UInt64($0) << 24 }
  }
}

extension Op {
  /// Whether it is the sum of the squares of one tensor, and nothing else.
  var isSumOfSquares: Bool {
    guard let fused = self as? Fused else { return false }
    let jobs = fused.program.instructions
    let isDense = fused.program.registers.contains { $0.place == .input(0, .dense) && $0.extent == .full }
    // A short tensor is one row.
    let isRow = fused.program.rows == 1 && jobs.map(\.code) == [.rowProduct] && jobs[0].a == jobs[0].b
    return isDense && (isRow || jobs.map(\.code) == [.unary(.square), .totalSum])
  }
}
