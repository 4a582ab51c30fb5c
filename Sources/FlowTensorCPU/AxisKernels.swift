import CKernels
import FlowTensor

extension CPUBackend {
  /// The kernels of ops along one axis; `nil` for other ops.
  func axisBody(
    _ op: any Op, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ xs: [[Int]], _ ys: [[Int]]
  ) -> (() -> Void)? {
    func integers(_ pointer: UnsafeMutablePointer<Float>) -> UnsafeMutablePointer<Int32> {
      UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: Int32.self)
    }
    switch op {
    case let op as Extreme:
      let run = AxisRun(xs[0], op.axes)
      return { flow_extreme(t, y[0], x[0], run.outer, run.count, run.inner, op.largest ? 1 : 0) }
    case let op as ArgExtreme:
      let run = AxisRun(xs[0], op.axis...op.axis)
      return {
        flow_arg_extreme(t, integers(y[0]), x[0], run.outer, run.count, run.inner, op.largest ? 1 : 0)
      }
    case let op as CumulativeSum:
      let run = AxisRun(xs[0], op.axis...op.axis)
      return { flow_cumulative_sum(t, y[0], x[0], run.outer, run.count, run.inner, op.reverse ? 1 : 0) }
    case let op as OneHot:
      let count = xs[0].reduce(1, *)
      return { flow_one_hot(t, y[0], integers(x[0]), count, op.classes) }
    case let op as TakeAlong:
      let (run, taken) = (AxisRun(xs[0], op.axis...op.axis), xs[1][op.axis])
      return { flow_take_along(t, y[0], x[0], integers(x[1]), run.outer, run.count, taken, run.inner) }
    case let op as PutAlong:
      let run = AxisRun(xs[0], op.axis...op.axis)
      return { flow_put_along(t, y[0], x[0], integers(x[1]), run.outer, op.count, run.count, run.inner) }
    default: return nil
    }
  }
}
