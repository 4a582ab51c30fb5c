import CCUDA
import FlowTensor

/// Algorithms for a product, tried on the device with operands of its own.
struct ProductTrial {
  let product: MatrixProduct
  let op: MatMul
  /// Their types and shapes matter here, not where they lie.
  let inputs: [Operand]
  let output: Operand

  /// Products that are timed together.
  private static let each = 2

  private struct Operands {
    let a, b, added, result, wanted, scratch, seen: CUDABuffer
    func memory(_ result: CUDABuffer) -> MatrixProduct.Memory {
      .init(a: a.address, b: b.address, added: added.address, result: result.address)
    }
  }

  /// The number of the fastest of `candidates` whose results have the same bits as the first's; `nil` when there is no
  /// memory to try them in. After `limit` no other is tried.
  func fastest(
    of candidates: [flow_lt_choice], _ compiler: KernelCompiler, within limit: Duration
  ) throws(TensorError) -> Int? {
    let end = ContinuousClock.now + limit
    let trial = Trial(device: product.device, compiler: compiler)
    try compiler.prepare(Trial.kernels((inputs + [output]).map(\.cType)))
    guard let operands = try operands(trial, candidates.map(\.workspace).max() ?? 0) else { return nil }
    try fill(operands, trial)
    guard try run(candidates[0], operands, operands.wanted, trial) else { return nil }
    var alive = [0]
    for index in candidates.indices.dropFirst() where ContinuousClock.now < end {
      if try run(candidates[index], operands, operands.result, trial),
        try trial.same(operands.result, operands.wanted, operands.seen)
      {
        alive.append(index)
      }
    }
    return try Trial.race(alive, until: end) { index throws(TensorError) in
      try time(candidates[index], operands)
    }.taken
  }

  // MARK: Parts

  private func operands(_ trial: Trial, _ scratch: Int) throws(TensorError) -> Operands? {
    let result = Trial.words(output)
    let added = product.isAdded ? result : 0
    let sizes = [Trial.words(inputs[1]), Trial.words(inputs[0]), added, result, result, (scratch + 3) / 4]
    guard let (made, seen) = try trial.buffers(words: sizes) else { return nil }
    return Operands(
      a: made[0], b: made[1], added: made[2], result: made[3], wanted: made[4], scratch: made[5], seen: seen)
  }

  private func fill(_ to: Operands, _ trial: Trial) throws(TensorError) {
    let k = op.sizes(inputs[0].shape, inputs[1].shape).k
    // Of different lengths than those that a sum may be cut into.
    let half = k < 16 ? 0 : k * 7 / 16
    func fill(_ operand: Operand, _ buffer: CUDABuffer, _ how: Trial.Filling) throws(TensorError) {
      let shape = operand.shape.suffix(2)
      var how = how
      (how.rows, how.columns) = (shape[shape.startIndex], shape[shape.startIndex + 1])
      try trial.fill(operand, at: buffer.address, how)
    }
    let a = Trial.Filling(columns: 0, down: !op.transposeB, half: half, isNegated: true, seed: 1)
    try fill(inputs[1], to.a, a)
    try fill(inputs[0], to.b, Trial.Filling(columns: 0, down: op.transposeA, half: half, seed: 2))
    // No larger than what the roundings leave.
    if product.isAdded { try fill(output, to.added, Trial.Filling(columns: 0, seed: 3, scale: 1e-4)) }
  }

  /// Whether the algorithm makes the product.
  private func run(
    _ candidate: flow_lt_choice, _ operands: Operands, _ result: CUDABuffer, _ trial: Trial
  ) throws(TensorError) -> Bool {
    try trial.set(result, to: .max)
    return product.enqueue(candidate, operands.memory(result), scratch: operands.scratch.address) == 0
  }

  /// Seconds that a product takes.
  private func time(_ candidate: flow_lt_choice, _ operands: Operands) throws(TensorError) -> Double {
    var status: Int32 = 0
    let seconds = try product.device.seconds(of: "trying products") { () throws(TensorError) in
      for _ in 0..<Self.each {
        status = max(
          status,
          product.enqueue(candidate, operands.memory(operands.result), scratch: operands.scratch.address))
      }
    }
    guard status == 0 else { return .infinity }
    return seconds / Double(Self.each)
  }
}
