import FlowTensor

extension KernelTable {
  /// A product one of whose sides is at most 64, such as those of an adapter of low rank, of operands in bfloat16: it takes
  /// the time of reading and writing the long matrix. `nil` where it is another, too small to matter, or one whose result is
  /// the small matrix of long rows, which cuBLASLt makes faster.
  static func skinny(_ op: MatMul, _ c: StepContext, scale: Float) -> Work? {
    let (a, b, y) = (c.inputs[0], c.inputs[1], c.outputs[0])
    let size = op.sizes(a.shape, b.shape)
    let (m, n, k) = (size.m, size.n, size.k)
    let rank = min(m, n, k)
    guard size.batch == 1, rank <= 64, rank % 8 == 0, max(m * n, m * k, n * k) >= 1 << 16,
      a.dtype == .bfloat16, b.dtype == .bfloat16, y.isNumbers,
      (c.inputs + c.outputs).allSatisfy({ $0.address % 16 == 0 }),
      // What is added must be of the result's type.
      c.inputs.count < 3 || c.inputs[2].dtype == y.dtype
    else { return nil }
    let added = c.inputs.count > 2 ? c.inputs[2].argument : .long(0)
    let defines = ["T0=\(y.cType)", "RANK=\(rank)"] + (op.transposeB ? ["TRANSPOSED"] : [])
    if k == rank, !op.transposeA, m >= 128, n % 8 == 0 {
      let grid = ((n + 255) / 256, (m + 127) / 128, 1)
      return Work(launches: [
        Launch(
          Kernel("skinny", "from_rank", defines), grid: grid, threads: 128,
          [y.argument, added, a.argument, b.argument, .int(Int32(m)), .int(Int32(n)), .float(scale)])
      ])
    }
    guard op.transposeA, !op.transposeB, m == rank || n == rank else { return nil }
    let isTurned = m != rank
    let columns = isTurned ? m : n
    guard columns % 64 == 0, k >= 64 else { return nil }
    // As many blocks as three on each multiprocessor of a Hopper, whichever device it is: the order of a sum.
    let tiles = columns / 64
    let wanted = max(1, min(396 / tiles, k / 256))
    let each = ((k + wanted - 1) / wanted + 63) / 64 * 64
    let pieces = (k + each - 1) / each
    let (narrow, wide) = isTurned ? (b, a) : (a, b)
    return Work(
      launches: [
        Launch(
          Kernel("skinny", "along_rows", defines), grid: (tiles, pieces, 1), threads: 128, shared: 64 << 10,
          [
            .scratch(0), narrow.argument, wide.argument, .int(Int32(k)), .int(Int32(columns)),
            .int(Int32(each)),
          ]),
        Launch(
          Kernel("skinny", "finish", defines), count: rank * columns, each: 256, threads: 256,
          [
            y.argument, added, .scratch(0), .int(Int32(columns)), .int(Int32(pieces)), .int(isTurned ? 1 : 0),
            .float(scale),
          ]),
      ], scratch: pieces * rank * columns * 4)
  }
}
