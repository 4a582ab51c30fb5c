import FlowTensor

extension KernelTable {
  /// Sums, and functions of rows.
  static func reduce(_ op: any Op, _ c: StepContext) -> Work? {
    // A product over nothing is a sum over nothing.
    if op is MatMul, c.inputs.contains(where: { $0.count == 0 }), c.outputs[0].dtype == .float32 {
      return zeros(c.outputs[0])
    }
    guard reduceStorage(op) != nil, c.areNumbers else { return nil }
    let (x, y) = (c.inputs[0], c.outputs[0])
    let width = x.shape.last ?? 1
    switch op {
    case let op as Sum:
      guard y.dtype == .float32 else { return nil }
      return sum(op, x, y)
    case is Softmax: return rows("softmax", x, y, [y.argument, x.argument], [])
    case let op as RMSNormalize:
      guard c.outputs[1].dtype == .float32, width > 0 else { return nil }
      return rows(
        "rms_normalize", x, y, [y.argument, c.outputs[1].argument, x.argument], [.float(op.epsilon)])
    default: return nil
    }
  }

  static func reduceStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Sum: ([0], [])
    case is Softmax, is RMSNormalize: ([0], [0])
    default: nil
    }
  }

  private static func rows(
    _ entry: String, _ x: Operand, _ y: Operand, _ first: [Argument], _ rest: [Argument]
  ) -> Work {
    let width = x.shape.last ?? 1
    let isShort = width <= 2048
    var defines = ["T0=\(x.cType)", "T1=\(y.cType)", "GROUP=\(isShort ? 32 : 256)"]
    if width % 4 == 0, x.isAligned, y.isAligned { defines.append("WIDE") }
    let count = x.count / width
    return Work(launches: [
      Launch(
        Kernel("rows", entry, defines), count: count, each: isShort ? 8 : 1, threads: 256,
        first + [.long(Int64(count)), .long(Int64(width))] + rest)
    ])
  }

  /// A sum over any axes is one over each run of neighbouring axes, the last first.
  private static func sum(_ op: Sum, _ x: Operand, _ y: Operand) -> Work {
    if x.count == 0 { return zeros(y) }
    let runs = op.runs(x.shape)
    var plan = SumPlan()
    let whole = SumPlan.Source(at: x.argument, type: x.cType, isAligned: x.isAligned)
    if runs.count == 2, runs[0].inner == 1, runs[1].outer == 1 {
      plan.addAround(whole, to: y.argument, runs[1].count, y.count, runs[0].count)
      return plan.work
    }
    var from = whole
    for (index, run) in runs.enumerated() {
      let isLast = index == runs.count - 1
      let to = isLast ? y.argument : plan.reserve(run.outer * run.inner)
      plan.add(from, to: to, run.outer, run.count, run.inner)
      from = .init(at: to, type: "float", isAligned: !isLast)
    }
    return plan.work
  }

  /// Zeros, for a sum over nothing.
  static func zeros(_ y: Operand) -> Work {
    Work(launches: [
      Launch(
        Kernel("sum", "zeros", ["T0=float"]), count: y.count, each: 256, threads: 256,
        [y.argument, .long(Int64(y.count))])
    ])
  }
}

/// Launches of sum.cu. How a sum is cut into pieces depends on the sizes only.
private struct SumPlan {
  /// What is summed.
  struct Source {
    var at: Argument
    var type: String
    var isAligned: Bool
  }

  private(set) var work = Work(launches: [])

  /// Scratch memory for `count` floats.
  mutating func reserve(_ count: Int) -> Argument {
    defer { work.scratch += (count * 4 + 255) / 256 * 256 }
    return .scratch(work.scratch)
  }

  /// The sums of [outer, count, inner] over `count`.
  mutating func add(_ from: Source, to: Argument, _ outer: Int, _ count: Int, _ inner: Int) {
    inner == 1
      ? addRows(from, to, outer, kept: outer, count) : addColumns(from, to, outer, count, inner)
  }

  /// The sums of [outer, kept, count] over all but `kept`: those of a layer's bias.
  mutating func addAround(_ from: Source, to: Argument, _ outer: Int, _ kept: Int, _ count: Int) {
    if outer * count <= 1 << 15 {
      return launch("sum_around", from, to, wide: count % 4 == 0, kept, 1, [outer, count])
    }
    addRows(from, to, outer * kept, kept: kept, count)
  }

  private mutating func launch(
    _ entry: String, _ from: Source, _ to: Argument, wide: Bool, _ units: Int, _ each: Int, _ sizes: [Int]
  ) {
    let defines = ["T0=\(from.type)"] + (wide && from.isAligned ? ["WIDE"] : [])
    work.launches.append(
      Launch(
        Kernel("sum", entry, defines), count: units, each: each, threads: 256,
        [to, from.at] + sizes.map { .long(Int64($0)) }))
  }

  /// The sums of rows; of [rows / kept, kept] rows, those that belong to one of the `kept` are summed too.
  private mutating func addRows(_ from: Source, _ to: Argument, _ rows: Int, kept: Int, _ count: Int) {
    let wide = count % 4 == 0
    if count <= 16, kept == rows {
      return launch("sum_short_rows", from, to, wide: false, rows, 256, [rows, count])
    }
    let isLong = count > 2048
    let piece = 1 << 14
    let pieces = isLong ? (count + piece - 1) / piece : 1
    let left = rows / kept * pieces
    let parts = left == 1 ? to : reserve(rows * pieces)
    if isLong {
      launch(
        "sum_long_rows", from, parts, wide: wide, rows * pieces, 1, [rows, kept, count, piece, pieces])
    } else {
      launch("sum_rows", from, parts, wide: wide, rows, 8, [rows, kept, count])
    }
    if left > 1 { add(Source(at: parts, type: "float", isAligned: true), to: to, kept, left, 1) }
  }

  private mutating func addColumns(
    _ from: Source, _ to: Argument, _ outer: Int, _ count: Int, _ inner: Int
  ) {
    let wide = inner % 4 == 0 && from.isAligned
    let across = (inner + (wide ? 127 : 31)) / (wide ? 128 : 32)
    // Rows of a piece: enough pieces to fill a device, not more.
    var piece = 128
    while piece < count, outer * across * ((count + piece - 1) / piece) > 2048 { piece *= 2 }
    let pieces = (count + piece - 1) / piece
    let parts = pieces == 1 ? to : reserve(outer * pieces * inner)
    launch(
      "sum_columns", from, parts, wide: wide, outer * pieces * across, 1, [count, inner, piece, pieces])
    if pieces > 1 {
      add(Source(at: parts, type: "float", isAligned: true), to: to, outer, pieces, inner)
    }
  }
}
