import CCUDA
import FlowTensor

/// Ways of doing the same on a device, timed beside each other in memory of their own, and what they give compared bit by
/// bit.
struct Trial {
  let device: CUDADevice
  let compiler: KernelCompiler

  /// How many times each way is timed.
  private static let rounds = 5
  /// One that takes longer than this, compared with the fastest, is timed no more; one that gains less isn't worth taking.
  private static let (hopeless, worthwhile) = (1.25, 0.95)
  private static let blocks = 512

  /// What each way took, in seconds, and which is taken.
  struct Outcome {
    /// By the numbers of those that were timed.
    var times: [Int: Double]
    var taken: Int
  }

  /// Times `ways`, of which the first is taken unless another is worth it. After `end` no other round is begun.
  static func race(
    _ ways: [Int], until end: ContinuousClock.Instant, _ time: (Int) throws(TensorError) -> Double
  ) throws(TensorError) -> Outcome {
    guard let first = ways.first, ways.count > 1 else { return Outcome(times: [:], taken: ways.first ?? 0) }
    var alive = ways
    var times = [Int: [Double]]()
    for round in 0..<rounds {
      for way in alive { times[way, default: []].append(try time(way)) }
      let best = times.values.compactMap(\.first).min() ?? 0
      if round == 0 { alive.removeAll { $0 != first && (times[$0]?.first ?? 0) > best * hopeless } }
      if ContinuousClock.now >= end { break }
    }
    let medians = times.mapValues { $0.sorted()[$0.count / 2] }
    let usual = medians[first] ?? 0
    let best = alive.min { (medians[$0] ?? .infinity) < (medians[$1] ?? .infinity) } ?? first
    let isWorthIt = (medians[best] ?? .infinity) < usual * worthwhile
    return Outcome(times: medians, taken: isWorthIt ? best : first)
  }

  /// Buffers of so many words, and what `same` needs; `nil` when there is no memory for them and for what others take
  /// meanwhile.
  func buffers(words: [Int]) throws(TensorError) -> (made: [CUDABuffer], seen: CUDABuffer)? {
    guard try device.free() > 2 * 4 * (words.reduce(0, +) + Trial.blocks) else { return nil }
    do throws(TensorError) {
      var made: [CUDABuffer] = []
      for count in words { made.append(try CUDABuffer(device, count)) }
      return (made, try CUDABuffer(device, Trial.blocks))
    } catch .outOfMemory { return nil }
  }

  /// Words that an operand takes.
  static func words(_ operand: Operand) -> Int { (operand.count * operand.dtype.size + 3) / 4 }

  // MARK: Kernels

  /// The kernels that fill operands of such types, and compare.
  static func kernels(_ types: [String]) -> Set<Kernel> { Set(types.map(fill) + [differ]) }
  private static func fill(_ type: String) -> Kernel { Kernel("trial", "fill", ["T0=\(type)"]) }
  private static let differ = Kernel("trial", "differ", ["T0=float"])

  /// What `trial.cu` fills matrices with.
  struct Filling {
    var rows = 1
    var columns: Int
    /// Whether sums run along the rows.
    var down = false
    var half = 0
    var isNegated = false
    var seed: Int
    var scale: Float = 1
  }

  func fill(_ operand: Operand, at address: UInt64, _ how: Filling) throws(TensorError) {
    let arguments: [Argument] = [
      .address(address), .long(Int64(operand.count)), .long(Int64(how.rows)), .long(Int64(how.columns)),
      .int(how.down ? 1 : 0), .long(Int64(how.half)), .int(how.isNegated ? 1 : 0), .int(Int32(how.seed)),
      .float(how.scale),
    ]
    let launch = Launch(Trial.fill(operand.cType), count: operand.count, each: 256, threads: 256, arguments)
    try device.launch(compiler.function(launch.kernel), launch, arguments)
  }

  /// Sets all words of a buffer.
  func set(_ buffer: CUDABuffer, to word: UInt32) throws(TensorError) {
    try CUDADevice.check(
      flow_cuMemsetD32Async(buffer.address, word, buffer.count, device.stream), "preparing a trial")
  }

  /// Whether two buffers have the same bits.
  func same(_ a: CUDABuffer, _ b: CUDABuffer, _ seen: CUDABuffer) throws(TensorError) -> Bool {
    try comparison(a, b, seen)()
    var found = [Float](repeating: 0, count: Trial.blocks)
    var result = Result<Void, TensorError>.success(())
    found.withUnsafeMutableBytes { bytes in
      do throws(TensorError) { try seen.read(bytes, at: 0) } catch { result = .failure(error) }
    }
    try result.get()
    return found.allSatisfy { $0 == 0 }
  }

  /// Reads all of a buffer, so that what was near the multiprocessors isn't any more.
  func read(_ buffer: CUDABuffer, _ seen: CUDABuffer) throws(TensorError) { try reading(buffer, seen)() }

  /// What `read` does, ready to be recorded: a kernel is looked up before.
  func reading(
    _ buffer: CUDABuffer, _ seen: CUDABuffer
  ) throws(TensorError) -> () throws(TensorError) -> Void {
    try comparison(buffer, buffer, seen)
  }

  private func comparison(
    _ a: CUDABuffer, _ b: CUDABuffer, _ seen: CUDABuffer
  ) throws(TensorError) -> () throws(TensorError) -> Void {
    let arguments: [Argument] = [
      .address(seen.address), .address(a.address), .address(b.address), .long(Int64(min(a.count, b.count))),
    ]
    let launch = Launch(Trial.differ, grid: (Trial.blocks, 1, 1), threads: 256, arguments)
    let function = try compiler.function(launch.kernel)
    return { () throws(TensorError) in try device.launch(function, launch, arguments) }
  }
}
