import FlowTensor

extension KernelTable {
  /// Ops that add elements up where they belong, and those that take or put them along an axis.
  static func scatter(_ op: any Op, _ c: StepContext) -> Work? {
    let (x, y) = (c.inputs[0], c.outputs[0])
    switch op {
    case let op as Unpad:
      let sizes = [y.shape.last ?? 1, op.before, op.after].map { Argument.long(Int64($0)) }
      return overlap("unpad", x, y, sizes + [.int(op.mode.rawValue)])
    case let op as OverlapAdd:
      let (frames, window) = (x.shape[x.shape.count - 2], x.shape[x.shape.count - 1])
      return overlap(
        "overlap_add", x, y, [op.length, frames, window, op.hop].map { Argument.long(Int64($0)) })
    case is ScatterAdd: return scatterAdd(x, c.inputs[1], y)
    case let op as OneHot:
      return indexing("one_hot", c, [y.argument, x.argument, .long(Int64(op.classes))], y.count, each: 256)
    case let op as TakeAlong:
      let run = AxisRun(y.shape, op.axis...op.axis)
      let sizes = [x.shape[op.axis], run.count, run.inner]
      return indexing(
        "take_along", c, [y, x, c.inputs[1]].map(\.argument) + sizes.map { .long(Int64($0)) }, y.count,
        each: 256)
    case let op as PutAlong:
      let run = AxisRun(x.shape, op.axis...op.axis)
      let sizes = [op.count, run.count, run.inner]
      return indexing(
        "put_along", c, [y, x, c.inputs[1]].map(\.argument) + sizes.map { .long(Int64($0)) }, y.count, each: 8
      )
    default: return nil
    }
  }

  static func scatterStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Unpad, is OverlapAdd: ([0], [0])
    case is ScatterAdd: ([0], [])
    default: nil
    }
  }

  /// A launch of overlap.cu, `arguments` being those between the input and the count.
  static func overlap(_ entry: String, _ x: Operand, _ y: Operand, _ arguments: [Argument]) -> Work? {
    guard x.isNumbers, y.isNumbers else { return nil }
    return Work(launches: [overlap(entry, x.argument, x.cType, y, arguments)])
  }

  static func overlap(
    _ entry: String, _ x: Argument, _ type: String, _ y: Operand, _ arguments: [Argument]
  ) -> Launch {
    Launch(
      Kernel("overlap", entry, ["T0=\(type)", "T1=\(y.cType)", index(y.count)]), count: y.count, each: 256,
      threads: 256,
      [y.argument, x] + arguments + [.long(Int64(y.count))])
  }

  private static func indexing(
    _ entry: String, _ c: StepContext, _ arguments: [Argument], _ count: Int, each: Int
  ) -> Work? {
    guard c.outputs[0].dtype == .float32, c.inputs[c.inputs.count - 1].dtype == .int32,
      c.inputs.dropLast().allSatisfy({ $0.dtype == .float32 })
    else { return nil }
    return Work(launches: [
      Launch(
        Kernel("indexing", entry), count: count, each: each, threads: 256, arguments + [.long(Int64(count))])
    ])
  }

  private static func scatterAdd(_ x: Operand, _ index: Operand, _ y: Operand) -> Work? {
    guard x.isNumbers, y.dtype == .float32, index.dtype == .int32 else { return nil }
    if x.count == 0 { return zeros(y) }
    let (rows, width, count) = (y.shape[0], y.shape[1], index.count)
    let isWide = width % 4 == 0 && x.isAligned
    let across = (width + (isWide ? 127 : 31)) / (isWide ? 128 : 32)
    let defines = ["T0=\(x.cType)"] + (isWide ? ["WIDE"] : [])
    func kernel(_ entry: String) -> Kernel { Kernel("scatter", entry, defines) }
    let piece = (rows * 4 + 255) / 256 * 256
    let (counts, starts, list) = (Argument.scratch(0), Argument.scratch(piece), Argument.scratch(2 * piece))
    let sizes: [Argument] = [.long(Int64(count)), .long(Int64(rows))]
    return Work(
      launches: [
        Launch(
          kernel("scatter_count"), count: rows, each: 8, threads: 256, [counts, index.argument] + sizes),
        Launch(
          kernel("scatter_starts"), grid: (1, 1, 1), threads: 256, [starts, counts, .long(Int64(rows))]),
        Launch(
          kernel("scatter_list"), count: rows, each: 8, threads: 256,
          [list, starts, counts, index.argument] + sizes),
        Launch(
          kernel("scatter_sum"), grid: (rows * across, 1, 1), threads: 256,
          [
            y.argument, x.argument, list, starts, counts, .long(Int64(width)), .long(Int64(across)),
          ]),
      ], scratch: 2 * piece + count * 4)
  }
}
