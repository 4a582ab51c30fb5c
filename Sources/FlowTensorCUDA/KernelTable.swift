import FlowTensor

/// The kernels of ops, by families; a family is a file of Kernels/.
enum KernelTable {
  private static let families: [@Sendable (any Op, StepContext) -> Work?] = [
    { fused($0, $1) }, { elementwise($0, $1) }, { move($0, $1) }, { reduce($0, $1) }, { optimizer($0, $1) },
    { scatter($0, $1) }, { axis($0, $1) }, { spectra($0, $1) }, { sequence($0, $1) },
    { attention($0, $1) }, { convolution($0, $1) }, { snake($0, $1) },
  ]

  /// Which inputs a family's op can take in 16 bits, and which outputs it can give so.
  typealias Storage = (reads: [Int], writes: [Int])
  private static let storages: [@Sendable (any Op) -> Storage?] = [
    { elementwiseStorage($0) }, { moveStorage($0) }, { reduceStorage($0) }, { optimizerStorage($0) },
    { scatterStorage($0) }, { axisStorage($0) },
    { attentionStorage($0) }, { convolutionStorage($0) }, { snakeStorage($0) },
  ]

  /// What `op` launches; `nil` when no family has a kernel for it and these types.
  static func work(_ op: any Op, _ context: StepContext) -> Work? {
    for family in families { if let work = family(op, context) { return work } }
    return nil
  }

  /// Whether the op's kernel takes input number `input` in bfloat16.
  static func reads(_ op: any Op, _ input: Int) -> Bool {
    if op is MatMul || op is MatMulAdd || op is Fused { return true }
    for storage in storages { if let found = storage(op) { return found.reads.contains(input) } }
    return false
  }

  /// Whether the op is a product that is to be given input number `input` in bfloat16.
  static func wants(_ op: any Op, _ input: Int) -> Bool {
    switch op {
    case is MatMul: true
    case is MatMulAdd: input < 2
    case is Attention, is AttentionBack: reads(op, input)
    default: false
    }
  }

  /// Whether it gives output number `output` in bfloat16.
  static func writes(_ op: any Op, _ output: Int) -> Bool {
    if op is MatMul || op is MatMulAdd { return true }
    if let op = op as? Fused { return op.isFull(output) }
    for storage in storages { if let found = storage(op) { return found.writes.contains(output) } }
    return false
  }
}
