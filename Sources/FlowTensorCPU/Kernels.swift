import CKernels
import FlowTensor

extension CPUBackend {
  /// The kernel of one step. It keeps the buffers it points into.
  func kernel(_ step: Step) throws -> () -> Void {
    let t = Int32(threads)
    let x = try step.inputs.map { try pointer($0.slot) }
    let y = try step.outputs.map { try pointer($0.slot) }
    let work = try pointer(step.workspace)
    let (xs, ys) = (step.inputs.map(\.shape), step.outputs.map(\.shape))
    let count = ys[0].reduce(1, *)
    let run =
      switch step.op {
      case is Cast, is StridedCopy, is Concatenate, is PutRows: moving(step, t, x, y)
      default: body(step.op, t, x, y, work, xs, ys, count)
      }
    guard let run else { throw TensorError.unsupported(op: step.op.name, backend: name, path: step.path) }
    let held = (step, StepLabel(step))
    return {
      withExtendedLifetime(held) {
        flow_set_step(held.1.text)
        run()
      }
    }
  }

  private func pointer(_ slot: Slot) throws -> UnsafeMutablePointer<Float> {
    guard let buffer = slot.buffer as? HostBuffer else {
      throw TensorError.unsupported(op: "memory of another device", backend: name)
    }
    return buffer.base + slot.offset
  }

  private func body(
    _ op: any Op, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ work: UnsafeMutablePointer<Float>, _ xs: [[Int]], _ ys: [[Int]], _ count: Int
  ) -> (() -> Void)? {
    switch op {
    case let op as Unary: { flow_unary(t, op.code, y[0], x[0], count) }
    case let op as Affine: { flow_affine(t, y[0], x[0], op.scale, op.offset, count) }
    case let op as Binary: binary(op, t, x, y, xs, ys)
    case let op as Pad: pad(op, t, x, y, xs)
    case let op as Unpad:
      {
        let length = ys[0].last ?? 1
        flow_unpad(t, y[0], x[0], count / max(1, length), length, op.before, op.after, op.mode.rawValue)
      }
    case let op as Frame:
      {
        let length = xs[0].last ?? 1
        flow_frame(t, y[0], x[0], xs[0].reduce(1, *) / length, length, op.window, op.hop)
      }
    case let op as OverlapAdd:
      {
        let rank = xs[0].count
        flow_overlap_add(
          t, y[0], x[0], xs[0].dropLast(2).reduce(1, *), xs[0][rank - 2], xs[0][rank - 1], op.hop, op.length)
      }
    case let op as Sum: sum(op, t, x, y, work, xs)
    case is Softmax: { flow_softmax(t, y[0], x[0], count / max(1, xs[0].last ?? 1), xs[0].last ?? 1) }
    case let op as RMSNormalize:
      { flow_rms(t, y[0], y[1], x[0], count / max(1, xs[0].last ?? 1), xs[0].last ?? 1, op.epsilon) }
    case let op as MatMul:
      {
        let s = op.sizes(xs[0], xs[1])
        flow_gemm(
          t, op.transposeA ? 1 : 0, op.transposeB ? 1 : 0, s.m, s.n, s.k, s.batch, x[0], s.strideA, x[1],
          s.strideB,
          y[0])
      }
    case let op as MatMulAdd:
      {
        let s = op.product.sizes(xs[0], xs[1])
        flow_gemm(
          t, op.product.transposeA ? 1 : 0, op.product.transposeB ? 1 : 0, s.m, s.n, s.k, s.batch, x[0],
          s.strideA, x[1], s.strideB, work)
        flow_affine(t, op.adds ? work : y[0], work, op.scale, 0, count)
        guard op.adds else { return }
        flow_binary(t, Binary(.add).code, y[0], work, x[2], 1, [count], [1], [1])
      }
    case is Gather:
      {
        let index = UnsafeRawPointer(x[1]).assumingMemoryBound(to: Int32.self)
        flow_gather(t, y[0], x[0], index, xs[1].reduce(1, *), xs[0][0], xs[0][1])
      }
    case let op as ScatterAdd:
      {
        let index = UnsafeRawPointer(x[1]).assumingMemoryBound(to: Int32.self)
        flow_scatter_add(y[0], x[0], index, xs[1].reduce(1, *), op.rows, xs[0].last ?? 1)
      }
    case let op as Convolve:
      { flow_conv(t, self.sizes(op.geometry, x: xs[0], w: xs[1], result: ys[0][2]), y[0], x[0], x[1], work) }
    case let op as ConvolveBack:
      {
        flow_conv_back(
          t, self.sizes(op.geometry, x: ys[0], w: xs[1], result: xs[0][2]), y[0], x[0], x[1], work)
      }
    case let op as ConvolveWeight:
      {
        flow_conv_weight(
          t, self.sizes(op.geometry, x: xs[0], w: ys[0], result: xs[1][2]), y[0], x[0], x[1], work)
      }
    case let op as AliasFreeSnake:
      {
        flow_snake(
          t, y[0], x[0], x[1], x[2], AliasFreeSnake.filter, xs[0][0] * xs[0][1], xs[0][1], xs[0][2],
          op.logScale ? 1 : 0)
      }
    case let op as AliasFreeSnakeBack:
      {
        flow_snake_back(
          t, y[0], y[1], y[2], x[0], x[1], x[2], x[3], AliasFreeSnake.filter, xs[1][0] * xs[1][1], xs[1][1],
          xs[1][2],
          op.logScale ? 1 : 0)
      }
    case let op as AdamW:
      {
        flow_adamw(
          t, y[0], y[1], y[2], x[0], x[1], x[2], x[3], x[4], op.beta1, op.beta2, op.epsilon, op.weightDecay,
          count)
      }
    case let op as Attention:
      {
        flow_attention(t, self.sizes(op.scale, xs), y[0], y[1], x[0], x[1], x[2], mask(x[3]), work)
      }
    case let op as AttentionBack:
      {
        flow_attention_back(
          t, self.sizes(op.scale, xs), y[0], y[1], y[2], x[0], x[1], x[2], mask(x[3]), x[4],
          x[5], x[6], work)
      }
    case let op as Fused: fused(op, t, x, y, work)
    case let op as Random:
      {
        let key = UnsafeRawPointer(x[0]).assumingMemoryBound(to: Int32.self)
        flow_random(t, y[0], count, key, op.stream, op.distribution == .normal ? 1 : 0)
      }
    default: imageBody(op, t, x, y, work, xs, ys)
    }
  }

  private func mask(_ memory: UnsafeMutablePointer<Float>) -> UnsafePointer<UInt8> {
    UnsafeRawPointer(memory).assumingMemoryBound(to: UInt8.self)
  }

  private func sizes(_ scale: Float, _ xs: [[Int]]) -> flow_attention_size {
    flow_attention_size(
      batch: xs[0][0], heads: xs[0][1], queries: xs[0][2], keys: xs[1][2], width: xs[0][3],
      mask_batch: xs[3][0],
      mask_heads: xs[3][1], scale: scale)
  }

  private func sizes(_ geometry: ConvolutionShape, x: [Int], w: [Int], result: Int) -> flow_conv_size {
    flow_conv_size(
      batch: x[0], in: x[1], out: w[0], length: x[2], result: result, taps: w[2], stride: geometry.stride,
      padding: geometry.padding, dilation: geometry.dilation)
  }

  private func binary(
    _ op: Binary, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ xs: [[Int]],
    _ ys: [[Int]]
  ) -> () -> Void {
    let axes = Axes(
      shape: ys[0],
      strides: [Broadcast.strides(of: xs[0], in: ys[0]), Broadcast.strides(of: xs[1], in: ys[0])])
    return {
      flow_binary(t, op.code, y[0], x[0], x[1], axes.rank, axes.shape, axes.strides[0], axes.strides[1])
    }
  }

  private func pad(
    _ op: Pad, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ xs: [[Int]]
  ) -> () -> Void {
    // An inner block moves as a whole: a pad of `before` rows is one of `before * inner` elements.
    let inner = xs[0][(op.axis + 1)...].reduce(1, *)
    let length = xs[0][op.axis] * inner
    let rows = xs[0][..<op.axis].reduce(1, *)
    return { flow_pad(t, y[0], x[0], rows, length, op.before * inner, op.after * inner, op.mode.rawValue) }
  }

  /// A sum over any axes is a few sums over one axis each, the last first, through the workspace.
  private func sum(
    _ op: Sum, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ work: UnsafeMutablePointer<Float>, _ xs: [[Int]]
  ) -> () -> Void {
    let passes = op.runs(xs[0])
    let half = op.half(xs[0])
    return {
      var from = UnsafePointer(x[0])
      for (index, pass) in passes.enumerated() {
        let to = index == passes.count - 1 ? y[0] : work + (index % 2) * half
        flow_sum(t, to, from, pass.outer, pass.count, pass.inner, work + 2 * half)
        from = UnsafePointer(to)
      }
    }
  }
}

/// What a step is, for the message of a kernel that finds no memory.
private final class StepLabel {
  let text: UnsafeMutablePointer<CChar>

  init(_ step: Step) {
    let shapes = step.inputs.map { "\($0.shape)" }.joined(separator: " ")
    let place = step.path.isEmpty ? "" : " (in \(step.path))"
    let bytes = "\(step.op.name) \(shapes)\(place)".utf8CString
    text = .allocate(capacity: bytes.count)
    _ = bytes.withUnsafeBufferPointer {
      UnsafeMutableBufferPointer(start: text, count: $0.count).initialize(from: $0)
    }
  }

  deinit {
    flow_set_step(nil)
    text.deallocate()
  }
}
