import FlowTensor

extension KernelTable {
  /// Extremes and running sums along axes, and maxima and samples of windows.
  static func axis(_ op: any Op, _ c: StepContext) -> Work? {
    switch op {
    case let op as Extreme: return extreme(c, AxisRun(c.inputs[0].shape, op.axes), op.largest)
    case let op as ArgExtreme:
      return extreme(c, AxisRun(c.inputs[0].shape, op.axis...op.axis), op.largest)
    case let op as CumulativeSum:
      return cumulative(c, AxisRun(c.inputs[0].shape, op.axis...op.axis), op.reverse)
    case let op as WindowTake: return windowTake(op.geometry, c)
    case let op as WindowPut: return windowPut(op.geometry, c)
    case let op as Resample:
      let run = AxisRun(c.inputs[0].shape, op.axis...op.axis)
      return resample(
        "resample", c, op.mode.table(from: run.count, to: op.count), [], [run.count, op.count, run.inner])
    case let op as ResampleBack:
      let run = AxisRun(c.inputs[0].shape, op.axis...op.axis)
      let table = op.mode.table(from: op.count, to: run.count)
      // The first output whose first sample is at least n - 1.
      var starts: [UInt64] = []
      for k in table.first.indices {
        while starts.count <= Int(table.first[k]) + 1 { starts.append(UInt64(k)) }
      }
      while starts.count < op.count + 2 { starts.append(UInt64(run.count)) }
      return resample("resample_back", c, table, [.table(starts)], [op.count, run.count, run.inner])
    default: return nil
    }
  }

  static func axisStorage(_ op: any Op) -> Storage? {
    switch op {
    case is WindowTake: ([0, 1], [0])
    case is WindowPut: ([0, 1], [0])
    case is Resample, is ResampleBack: ([0], [0])
    default: nil
    }
  }

  private static func extreme(_ c: StepContext, _ run: AxisRun, _ largest: Bool) -> Work? {
    let (x, y) = (c.inputs[0], c.outputs[0])
    guard x.dtype == .float32 else { return nil }
    let places = y.dtype == .int32
    let first: [Argument] = [
      places ? .address(0) : y.argument, places ? y.argument : .address(0), x.argument,
      .long(Int64(run.count)),
    ]
    let sign = Argument.float(largest ? 1 : -1)
    return Work(launches: [
      run.inner == 1
        ? Launch(Kernel("axis", "extreme_rows"), grid: (run.outer, 1, 1), threads: 256, first + [sign])
        : Launch(
          Kernel("axis", "extreme_columns"), count: y.count, each: 256, threads: 256,
          first + [.long(Int64(run.inner)), sign, .long(Int64(y.count))])
    ])
  }

  private static func cumulative(_ c: StepContext, _ run: AxisRun, _ reverse: Bool) -> Work? {
    let (x, y) = (c.inputs[0], c.outputs[0])
    guard x.dtype == .float32, y.dtype == .float32 else { return nil }
    let first: [Argument] = [y.argument, x.argument, .long(Int64(run.count))]
    let order = Argument.int(reverse ? 1 : 0)
    let columns = run.outer * run.inner
    return Work(launches: [
      run.inner == 1
        ? Launch(Kernel("axis", "cumulative_rows"), grid: (run.outer, 1, 1), threads: 256, first + [order])
        : Launch(
          Kernel("axis", "cumulative_columns"), count: columns, each: 256, threads: 256,
          first + [.long(Int64(run.inner)), order, .long(Int64(columns))])
    ])
  }

  /// The fields of pool.cu's Windows over planes of the shape `plane`, with results of the shape `result`.
  private static func windows(_ g: PoolShape, _ plane: [Int], _ result: [Int]) -> Argument {
    let sizes = Array(plane.suffix(2)) + Array(result.suffix(2)) + g.window + g.stride + g.padding
    return .table(sizes.map { UInt64($0) })
  }

  private static func pool(
    _ entry: String, _ key: Operand, _ x: Operand, _ y: Operand, _ count: Int, _ arguments: [Argument]
  ) -> Launch {
    let defines = ["KEY=\(key.cType)", "T0=\(x.cType)", "T1=\(y.cType)", index(max(x.count, y.count))]
    return Launch(
      Kernel("pool", entry, defines), count: count, each: 256, threads: 256,
      arguments + [.long(Int64(count))])
  }

  private static func windowTake(_ g: PoolShape, _ c: StepContext) -> Work? {
    guard c.areNumbers else { return nil }
    let (keys, x, y) = (c.inputs[0], c.inputs[1], c.outputs[0])
    return Work(launches: [
      pool("window_take", keys, x, y, y.count, [y, keys, x].map(\.argument) + [windows(g, x.shape, y.shape)])
    ])
  }

  private static func windowPut(_ g: PoolShape, _ c: StepContext) -> Work? {
    guard c.areNumbers else { return nil }
    let (keys, flow, y) = (c.inputs[0], c.inputs[1], c.outputs[0])
    let sizes = windows(g, keys.shape, flow.shape)
    return Work(
      launches: [
        pool("window_places", keys, flow, y, flow.count, [.scratch(0), keys.argument, sizes]),
        pool("window_put", keys, flow, y, y.count, [y.argument, .scratch(0), flow.argument, sizes]),
      ], scratch: flow.count * 8)
  }

  private static func resample(
    _ entry: String, _ c: StepContext, _ table: (first: [Int32], second: [Int32], share: [Float]),
    _ more: [Argument], _ sizes: [Int]
  ) -> Work? {
    guard c.areNumbers else { return nil }
    var words: [UInt64] = []
    for k in table.first.indices {
      words.append(UInt64(table.first[k]) | UInt64(table.second[k]) << 32)
      words.append(UInt64(table.share[k].bitPattern))
    }
    let (x, y) = (c.inputs[0], c.outputs[0])
    return Work(launches: [
      pool(
        entry, x, x, y, y.count,
        [y.argument, x.argument, .table(words)] + more + sizes.map { .long(Int64($0)) })
    ])
  }
}
