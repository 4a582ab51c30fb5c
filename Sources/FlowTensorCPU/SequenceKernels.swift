import CKernels
import FlowTensor

extension CPUBackend {
  /// The kernels of spectra and recurrences; `nil` for other ops.
  func sequenceBody(
    _ op: any Op, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ work: UnsafeMutablePointer<Float>, _ xs: [[Int]], _ ys: [[Int]]
  ) -> (() -> Void)? {
    switch op {
    case let op as Fourier:
      let (length, size) = (xs[0][xs[0].count - 1], xs[1][0])
      let (rows, frames) = (xs[0].dropLast().reduce(1, *), ys[0][ys[0].count - 2])
      return { flow_fourier(t, y[0], y[1], x[0], x[1], rows, length, frames, size, op.hop) }
    case let op as FourierBack:
      let (rows, frames, size) = (xs[0].dropLast(2).reduce(1, *), xs[0][xs[0].count - 2], xs[2][0])
      return {
        flow_fourier_back(t, y[0], x[0], x[1], x[2], rows, op.length, frames, size, op.hop, work)
      }
    case is CTC:
      let (rows, steps, classes, width) = (xs[0][0], xs[0][1], xs[0][2], xs[1][1])
      let labels = UnsafeRawPointer(x[1]).assumingMemoryBound(to: Int32.self)
      return { flow_ctc(t, y[0], y[1], x[0], labels, work, rows, steps, classes, width) }
    case let op as LSTM:
      let sizes = sizes(xs[0], op.reverse)
      return { flow_lstm(t, sizes, y[0], y[1], y[2], x[0], x[1], x[2], x[3]) }
    case let op as LSTMBack:
      let sizes = sizes(xs[5], op.reverse)
      return { flow_lstm_back(t, sizes, y[0], y[1], y[2], x[0], x[1], x[2], x[3], x[4], x[5]) }
    default: return axisBody(op, t, x, y, xs, ys)
    }
  }

  private func sizes(_ gates: [Int], _ reverse: Bool) -> flow_lstm_size {
    flow_lstm_size(steps: gates[0], batch: gates[1], units: gates[2] / 4, reverse: reverse ? 1 : 0)
  }
}
