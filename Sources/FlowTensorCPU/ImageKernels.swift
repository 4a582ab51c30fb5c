import CKernels
import FlowTensor

extension CPUBackend {
  /// The kernels of ops on images, windows and grids; `nil` for other ops.
  func imageBody(
    _ op: any Op, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ work: UnsafeMutablePointer<Float>, _ xs: [[Int]], _ ys: [[Int]]
  ) -> (() -> Void)? {
    switch op {
    case let op as Convolve2D:
      let sizes = sizes(op.geometry, x: xs[0], w: xs[1], y: ys[0])
      return { flow_conv2d(t, sizes, y[0], x[0], x[1]) }
    case let op as Convolve2DBack:
      let sizes = sizes(op.geometry, x: ys[0], w: xs[1], y: xs[0])
      return { flow_conv2d_back(t, sizes, y[0], x[0], x[1]) }
    case let op as Convolve2DWeight:
      let sizes = sizes(op.geometry, x: xs[0], w: ys[0], y: xs[1])
      return { flow_conv2d_weight(t, sizes, y[0], x[0], x[1], work, Int32(Convolve2DWeight.slices)) }
    case let op as WindowTake:
      let sizes = sizes(op.geometry, x: xs[0], y: ys[0])
      return { flow_window_take(t, sizes, y[0], x[0], x[1]) }
    case let op as WindowPut:
      let sizes = sizes(op.geometry, x: xs[0], y: xs[1])
      return { flow_window_put(t, sizes, y[0], x[0], x[1]) }
    case let op as Resample:
      let run = AxisRun(xs[0], op.axis...op.axis)
      let table = op.mode.table(from: run.count, to: op.count)
      return {
        flow_resample(
          t, y[0], x[0], run.outer, run.count, op.count, run.inner, table.first, table.second, table.share)
      }
    case let op as ResampleBack:
      let run = AxisRun(xs[0], op.axis...op.axis)
      let table = op.mode.table(from: op.count, to: run.count)
      return {
        flow_resample_back(
          t, y[0], x[0], run.outer, op.count, run.count, run.inner, table.first, table.second, table.share)
      }
    default: return sequenceBody(op, t, x, y, work, xs, ys)
    }
  }

  private func sizes(_ g: ConvolutionShape2D, x: [Int], w: [Int], y: [Int]) -> flow_conv2d_size {
    flow_conv2d_size(
      batch: x[0], groups: g.groups, in: w[1], out: w[0] / g.groups, height: x[2], width: x[3], rows: y[2],
      columns: y[3], tap_rows: w[2], tap_columns: w[3], stride_row: g.stride[0], stride_column: g.stride[1],
      padding_row: g.padding[0], padding_column: g.padding[1], dilation_row: g.dilation[0],
      dilation_column: g.dilation[1])
  }

  private func sizes(_ g: PoolShape, x: [Int], y: [Int]) -> flow_window_size {
    let (x2, y2) = (Array(x.suffix(2)), Array(y.suffix(2)))
    return flow_window_size(
      planes: x.dropLast(2).reduce(1, *), height: x2[0], width: x2[1], rows: y2[0], columns: y2[1],
      window_rows: g.window[0], window_columns: g.window[1], stride_row: g.stride[0],
      stride_column: g.stride[1],
      padding_row: g.padding[0], padding_column: g.padding[1])
  }
}
