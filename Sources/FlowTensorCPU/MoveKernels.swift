import CKernels
import FlowTensor

/// Kernels of ops that take elements of every type.
extension CPUBackend {
  func moving(
    _ step: Step, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>]
  ) -> (() -> Void)? {
    let (input, output) = (step.inputs[0], step.outputs[0])
    let size = output.dtype.size
    let to = UnsafeMutableRawPointer(y[0])
    switch step.op {
    case is Cast:
      let count = output.shape.reduce(1, *)
      let types = (to: CPUBackend.code(output.dtype), from: CPUBackend.code(input.dtype))
      return { flow_cast(t, to, types.to, x[0], types.from, count) }
    case let op as StridedCopy:
      let axes = Axes(shape: output.shape, strides: [op.strides])
      let from = UnsafeRawPointer(x[0]) + op.offset * size
      return { flow_copy(t, to, from, Int32(size), axes.rank, axes.shape, axes.strides[0]) }
    case let op as Concatenate:
      let outer = output.shape[..<op.axis].reduce(1, *)
      let runs = step.inputs.map { $0.shape[op.axis...].reduce(1, *) * size }
      let total = runs.reduce(0, +)
      return {
        var start = 0
        for (from, run) in zip(x, runs) {
          let from = UnsafeRawPointer(from)
          for o in 0..<outer {
            (to + o * total + start).copyMemory(from: from + o * run, byteCount: run)
          }
          start += run
        }
      }
    case let op as PutRows:
      let (all, rows) = (input.shape, step.inputs[1].shape)
      let inner = all[(op.axis + 1)...].reduce(1, *) * size
      let (outer, total, run) = (all[..<op.axis].reduce(1, *), all[op.axis], rows[op.axis] * inner)
      let last = total - rows[op.axis]
      return {
        if to != UnsafeMutableRawPointer(x[0]) { to.copyMemory(from: x[0], byteCount: outer * total * inner) }
        let place = UnsafeRawPointer(x[2]).assumingMemoryBound(to: Int32.self)[0]
        let start = to + min(max(0, Int(place)), last) * inner
        for o in 0..<outer {
          (start + o * total * inner).copyMemory(from: UnsafeRawPointer(x[1]) + o * run, byteCount: run)
        }
      }
    default: return nil
    }
  }

  private static func code(_ type: DType) -> Int32 {
    switch type {
    case .float32: Int32(FLOW_FLOAT32)
    case .bfloat16: Int32(FLOW_BFLOAT16)
    case .float16: Int32(FLOW_FLOAT16)
    case .int32: Int32(FLOW_INT32)
    case .bool: Int32(FLOW_BOOL)
    }
  }
}

/// Axes of a strided loop, neighbours merged where all strides allow; at least one axis.
struct Axes {
  var shape: [Int] = []
  var strides: [[Int]]
  var rank: Int32 { Int32(shape.count) }

  init(shape full: [Int], strides given: [[Int]]) {
    strides = given.map { _ in [] }
    for axis in full.indices where full[axis] != 1 {
      let last = shape.count - 1
      let mergeable =
        last >= 0
        && given.indices.allSatisfy { strides[$0][last] == given[$0][axis] * full[axis] }
      if mergeable {
        shape[last] *= full[axis]
        for i in given.indices { strides[i][last] = given[i][axis] }
      } else {
        shape.append(full[axis])
        for i in given.indices { strides[i].append(given[i][axis]) }
      }
    }
    if shape.isEmpty {
      shape = [1]
      strides = given.map { _ in [0] }
    }
  }
}
