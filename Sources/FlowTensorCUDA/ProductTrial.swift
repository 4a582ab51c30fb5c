import CCUDA
import FlowTensor

/// Algorithms for a product, tried on the device with operands of its own.
struct ProductTrial {
  let product: MatrixProduct
  let op: MatMul
  /// Their types and shapes matter here, not where they lie.
  let inputs: [Operand]
  let output: Operand

  /// How many times each algorithm is timed, and products of one time.
  private static let (rounds, each) = (5, 2)
  /// One that takes longer than this, compared with the fastest, is timed no more; one that gains less isn't worth taking.
  private static let (hopeless, worthwhile) = (1.25, 0.95)
  private static let blocks = 512

  private struct Operands {
    let a, b, added, result, wanted, seen, scratch: CUDABuffer
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
    let types = Set((inputs + [output]).map(\.cType))
    try compiler.prepare(Set(types.map(Self.fill) + [Self.differ(output)]))
    guard let operands = try operands(candidates.map(\.workspace).max() ?? 0) else { return nil }
    try fill(operands, compiler)
    guard try run(candidates[0], operands, into: operands.wanted) else { return nil }
    var alive = [0]
    for index in candidates.indices.dropFirst() where ContinuousClock.now < end {
      if try run(candidates[index], operands, into: operands.result), try isSame(operands, compiler) {
        alive.append(index)
      }
    }
    guard alive.count > 1 else { return 0 }
    var times = [Int: [Double]]()
    var isDone = false
    for round in 0..<Self.rounds where !isDone {
      for index in alive { times[index, default: []].append(try time(candidates[index], operands)) }
      let best = times.values.compactMap(\.first).min() ?? 0
      if round == 0 { alive.removeAll { $0 != 0 && (times[$0]?.first ?? 0) > best * Self.hopeless } }
      isDone = ContinuousClock.now >= end
    }
    let medians = alive.map { index in
      let sorted = (times[index] ?? []).sorted()
      return (index: index, time: sorted[sorted.count / 2])
    }
    let best = medians.min { $0.time < $1.time } ?? medians[0]
    return best.time < medians[0].time * Self.worthwhile ? best.index : 0
  }

  // MARK: Parts

  private func operands(_ scratch: Int) throws(TensorError) -> Operands? {
    func words(_ operand: Operand) -> Int { (operand.count * operand.dtype.size + 3) / 4 }
    let result = words(output)
    let added = product.isAdded ? result : 0
    let sizes = [words(inputs[1]), words(inputs[0]), added, result, result, Self.blocks, (scratch + 3) / 4]
    // What others take meanwhile must be there as well.
    guard try product.device.free() > 2 * 4 * sizes.reduce(0, +) else { return nil }
    do throws(TensorError) {
      var made: [CUDABuffer] = []
      for size in sizes { made.append(try CUDABuffer(product.device, size)) }
      return Operands(
        a: made[0], b: made[1], added: made[2], result: made[3], wanted: made[4], seen: made[5],
        scratch: made[6])
    } catch .outOfMemory { return nil }
  }

  private static func fill(_ type: String) -> Kernel { Kernel("trial", "fill", ["T0=\(type)"]) }
  private static func differ(_ output: Operand) -> Kernel {
    Kernel("trial", "differ", ["T0=\(output.cType)"])
  }

  private func fill(_ to: Operands, _ compiler: KernelCompiler) throws(TensorError) {
    let k = op.sizes(inputs[0].shape, inputs[1].shape).k
    // Of different lengths than those that a sum may be cut into.
    let half = k < 16 ? 0 : k * 7 / 16
    func fill(
      _ operand: Operand, _ buffer: CUDABuffer, down: Bool, _ half: Int, negated: Bool, seed: Int32,
      scale: Float
    ) throws(TensorError) {
      let shape = operand.shape.suffix(2)
      let arguments: [Argument] = [
        .address(buffer.address), .long(Int64(operand.count)), .long(Int64(shape[shape.startIndex])),
        .long(Int64(shape[shape.startIndex + 1])), .int(down ? 1 : 0), .long(Int64(half)),
        .int(negated ? 1 : 0),
        .int(seed), .float(scale),
      ]
      let launch = Launch(Self.fill(operand.cType), count: operand.count, each: 256, threads: 256, arguments)
      try product.device.launch(compiler.function(launch.kernel), launch, arguments)
    }
    try fill(inputs[1], to.a, down: !op.transposeB, half, negated: true, seed: 1, scale: 1)
    try fill(inputs[0], to.b, down: op.transposeA, half, negated: false, seed: 2, scale: 1)
    if product.isAdded {
      // No larger than what the roundings leave.
      try fill(output, to.added, down: false, 0, negated: false, seed: 3, scale: 1e-4)
    }
  }

  /// Whether the algorithm makes the product.
  private func run(
    _ candidate: flow_lt_choice, _ operands: Operands, into result: CUDABuffer
  ) throws(TensorError) -> Bool {
    let device = product.device
    try CUDADevice.check(
      flow_cuMemsetD32Async(result.address, .max, result.count, device.stream), "trying products")
    return product.enqueue(candidate, operands.memory(result), scratch: operands.scratch.address) == 0
  }

  /// Whether the result has the bits of the wanted one.
  private func isSame(_ operands: Operands, _ compiler: KernelCompiler) throws(TensorError) -> Bool {
    let arguments: [Argument] = [
      .address(operands.seen.address), .address(operands.result.address), .address(operands.wanted.address),
      .long(Int64(operands.result.count)),
    ]
    let launch = Launch(Self.differ(output), grid: (Self.blocks, 1, 1), threads: 256, arguments)
    try product.device.launch(compiler.function(launch.kernel), launch, arguments)
    var seen = [Float](repeating: 0, count: Self.blocks)
    var result = Result<Void, TensorError>.success(())
    seen.withUnsafeMutableBytes { bytes in
      do throws(TensorError) { try operands.seen.read(bytes, at: 0) } catch { result = .failure(error) }
    }
    try result.get()
    return seen.allSatisfy { $0 == 0 }
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
