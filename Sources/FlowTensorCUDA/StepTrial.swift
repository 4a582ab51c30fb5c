import FlowTensor

/// The ways to do a step's work that it says give the same bits, tried on the device in memory of their own.
struct StepTrial {
  /// Of the step; where its operands lie doesn't matter here.
  let context: StepContext
  /// The step's work for operands elsewhere, with the same alternatives in the same order.
  let make: @Sendable (StepContext) -> Work?

  /// What each took, 0 being the work itself, and which of them is taken; `nil` when there is no memory to try them in, or
  /// not the time. All kernels are prepared.
  func outcome(
    _ device: CUDADevice, _ compiler: KernelCompiler, within limit: Duration
  ) throws(TensorError) -> Trial.Outcome? {
    let end = ContinuousClock.now + limit
    guard let bench = try Bench(self, Trial(device: device, compiler: compiler)) else { return nil }
    let alive = try bench.alike(until: end)
    // What wasn't tried is for another process to try.
    if ContinuousClock.now >= end { return nil }
    return try Trial.race(alive, until: end) { index throws(TensorError) in try bench.time(index) }
  }

  /// The numbers of the ways that give the bits of the first; `nil` when there is no memory to try them in.
  func alike(_ device: CUDADevice, _ compiler: KernelCompiler) throws(TensorError) -> [Int]? {
    try Bench(self, Trial(device: device, compiler: compiler))?.alike(until: .now + .seconds(1000))
  }
}

/// A step's operands in memory of a trial's own.
private struct Bench {
  private let trial: Trial
  /// Where the first way's results are kept, and where each way has its own.
  private let wanted: [CUDABuffer]
  private let results: [CUDABuffer]
  private let scratch: CUDABuffer
  /// As large as the cache, and read before something is timed.
  private let far: CUDABuffer
  private let seen: CUDABuffer
  /// What the addresses of `usual` and `ways` point into.
  private let inputs: [CUDABuffer]
  private let usual: Work
  private let ways: [Work]

  /// Numbers of ordinary size: exponentials and products of them are finite.
  private static let scale: Float = 1 / 16

  init?(_ step: StepTrial, _ trial: Trial) throws(TensorError) {
    let (context, outputs) = (step.context, step.context.outputs)
    // Those of one address are one, as they are for the step, and as large as the largest.
    var places: [UInt64: Int] = [:]
    var distinct: [Operand] = []
    for input in context.inputs {
      if let place = places[input.address] {
        if input.range.count > distinct[place].range.count { distinct[place] = input }
      } else {
        places[input.address] = distinct.count
        distinct.append(input)
      }
    }
    guard let known = step.make(context) else { return nil }
    let most = ([known] + known.alternatives).map(\.scratch).max() ?? 0
    let sizes =
      (distinct + outputs + outputs).map(Trial.words) + [(most + 3) / 4, trial.device.cache / 4]
    guard let (made, seen) = try trial.buffers(words: sizes) else { return nil }
    self.trial = trial
    self.seen = seen
    let inputs = Array(made.prefix(distinct.count))
    self.inputs = inputs
    wanted = Array(made[distinct.count...].prefix(outputs.count))
    results = Array(made[(distinct.count + outputs.count)...].prefix(outputs.count))
    (scratch, far) = (made[made.count - 2], made[made.count - 1])
    func moved(_ operand: Operand, _ buffer: CUDABuffer) -> Operand {
      Operand(
        address: buffer.address, shape: operand.shape, dtype: operand.dtype, isTurned: operand.isTurned)
    }
    func works(_ to: [CUDABuffer]) -> [Work] {
      let work = step.make(
        StepContext(
          inputs: context.inputs.map { moved($0, inputs[places[$0.address] ?? 0]) },
          outputs: zip(outputs, to).map(moved), multiprocessors: context.multiprocessors,
          capability: context.capability, leastTried: 0))
      return work.map { [$0] + $0.alternatives } ?? []
    }
    guard let first = works(wanted).first else { return nil }
    usual = first
    ways = works(results)
    for (index, input) in distinct.enumerated() {
      let how = Trial.Filling(columns: max(1, input.count), seed: index + 1, scale: Bench.scale)
      try trial.fill(input, at: inputs[index].address, how)
    }
  }

  /// The numbers of the ways that give the bits of the first, of those that there is time for.
  func alike(until end: ContinuousClock.Instant) throws(TensorError) -> [Int] {
    func run(_ work: Work, _ to: [CUDABuffer]) throws(TensorError) {
      // No number, so that what isn't written shows.
      for buffer in to + [scratch] { try trial.set(buffer, to: .max) }
      try enqueue(work)
    }
    try run(usual, wanted)
    var alike = [0]
    for index in ways.indices.dropFirst() where ContinuousClock.now < end {
      try run(ways[index], results)
      var isSame = true
      for (result, want) in zip(results, wanted) where isSame { isSame = try trial.same(result, want, seen) }
      if isSame { alike.append(index) }
    }
    return alike
  }

  /// Seconds that a way takes. Its operands come from memory, as they do in a step whose values are larger than the cache.
  func time(_ index: Int) throws(TensorError) -> Double {
    try trial.read(far, seen)
    return try trial.device.seconds(of: "trying forms of a step") { () throws(TensorError) in
      try enqueue(ways[index])
    }
  }

  private func enqueue(_ work: Work) throws(TensorError) {
    for launch in work.launches {
      let function = try trial.compiler.function(launch.kernel, shared: launch.shared)
      var arguments: [Argument] = []
      for argument in launch.arguments {
        switch argument {
        case .scratch(let offset): arguments.append(.address(scratch.address + UInt64(offset)))
        case .matrix(let matrix): arguments.append(.words(try matrix.map()))
        default: arguments.append(argument)
        }
      }
      try trial.device.launch(function, launch, arguments)
    }
  }
}
