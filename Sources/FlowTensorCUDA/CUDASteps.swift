import CCUDA
import FlowTensor

/// A program's steps on the device, recorded once as a graph. A run is one launch, and takes no memory.
final class CUDASteps: PreparedSteps {
  /// What is put on the stream.
  enum Command {
    case kernel(function: UnsafeMutableRawPointer?, Launch, [Argument])
    case product(MatrixProduct, scratch: UInt64)
    case exchange(CUDARanks, [CUDARanks.Call])
  }
  /// What a step touches.
  private struct Memory {
    var reads: [Range<UInt64>] = []
    var writes: [Range<UInt64>] = []

    /// That of steps that are one launch together.
    init(_ steps: [StepContext]) {
      reads = steps.flatMap { $0.inputs.map(\.range) }
      writes = steps.flatMap { $0.outputs.map(\.range) }
    }
  }

  let device: CUDADevice
  let compiler: KernelCompiler
  /// The step that does each.
  private(set) var doers: [Int] = []
  /// The commands of each step.
  private(set) var commands: [[Command]] = []
  private var memory: [Memory] = []
  private var scratch: CUDABuffer?
  private var tables: [CUDABuffer] = []
  private var masks = MaskSummaries()
  /// The steps that can be done in several ways.
  private var candidates: [Int: StepChoices.Candidate] = [:]
  /// What steps exchange between ranks.
  private var exchanges: [Int: Command] = [:]
  /// What the addresses point into.
  let steps: [Step]
  private var graph: UnsafeMutableRawPointer?
  private(set) var bytes = 0

  init(_ backend: CUDABackend, _ steps: [Step]) throws(TensorError) {
    (device, compiler) = (backend.device, backend.compiler)
    self.steps = steps
    try device.use()
    var drafts: [(work: Work?, product: MatrixProduct?)] = []
    while drafts.count < steps.count {
      let run = try merged(drafts.count, backend)
      doers += [Int](repeating: drafts.count, count: run.count)
      if run.count > 1 {
        drafts.append((run.work, nil))
        drafts += [(work: Work?, product: MatrixProduct?)](repeating: (nil, nil), count: run.count - 1)
        memory.append(run.memory)
        masks.forget(run.memory.writes)
        memory += [Memory](repeating: Memory([]), count: run.count - 1)
      } else {
        drafts.append(try draft(steps[drafts.count], backend))
      }
    }
    for (index, work) in try StepChoices(backend: backend).taken(candidates) { drafts[index].work = work }
    candidates = [:]
    backend.trials.save()
    try backend.compiler.prepare(Set(drafts.flatMap { $0.work?.launches.map(\.kernel) ?? [] }))
    let sizes = drafts.map { $0.product?.workspace ?? $0.work?.scratch ?? 0 }
    var ring = ScratchRing(sizes)
    let (buffer, isNew) = try device.scratch(max(64, ring.bytes / 4))
    scratch = buffer
    if isNew { bytes += buffer.count * 4 }
    for (index, draft) in drafts.enumerated() {
      let start = buffer.address + UInt64(ring.take(sizes[index]))
      memory[index].writes.append(start..<start + UInt64(sizes[index]))
      commands.append(try finish(draft.work, draft.product, backend.compiler, start))
      if let exchange = exchanges[index] { commands[index].append(exchange) }
    }
    bytes += tables.reduce(0) { $0 + $1.count * 4 } + masks.bytes
    guard commands.contains(where: { !$0.isEmpty }) else { return }
    try device.recording { () throws(TensorError) in graph = try recorded(recordSteps) }
  }

  deinit {
    guard (try? device.use()) != nil else { return }
    if graph != nil { flow_cuGraphExecDestroy(graph) }
  }

  func run() throws(TensorError) {
    try device.use()
    if graph != nil { try CUDADevice.check(flow_cuGraphLaunch(graph, device.stream), "starting a step") }
  }

  // MARK: Preparation

  /// The steps from `start` that are one launch together: an optimiser's, copies in 16 bits, or the squares of gradients.
  /// None reads what another writes.
  private func merged(
    _ start: Int, _ backend: CUDABackend
  ) throws(TensorError) -> (count: Int, work: Work?, memory: Memory) {
    func run(_ belongs: (any Op) -> Bool) throws(TensorError) -> [StepContext] {
      var contexts: [StepContext] = []
      var written: [Range<UInt64>] = []
      var read: [Range<UInt64>] = []
      for step in steps[start...].prefix(4096).prefix(while: { belongs($0.op) }) {
        let next = try context(step, backend)
        let (reads, writes) = (next.inputs.map(\.range), next.outputs.map(\.range))
        // Its own inputs may be where it writes, another's may not.
        let isApart =
          reads.allSatisfy { range in written.allSatisfy { !$0.overlaps(range) } }
          && writes.allSatisfy { range in (written + read).allSatisfy { !$0.overlaps(range) } }
        guard isApart else { break }
        contexts.append(next)
        written += writes
        read += reads
      }
      return contexts
    }
    if let first = steps[start].op as? AdamW {
      let contexts = try run { ($0 as? AdamW) == first }
      if let work = KernelTable.adamWMany(contexts, first) { return (contexts.count, work, Memory(contexts)) }
    } else if steps[start].op is Cast {
      let contexts = try run { $0 is Cast }
      if let work = KernelTable.narrowMany(contexts) { return (contexts.count, work, Memory(contexts)) }
    } else if steps[start].op.isSumOfSquares {
      let contexts = try run { $0.isSumOfSquares }
      let work = KernelTable.squaresMany(
        contexts.map { $0.inputs[0] }, to: contexts.map { $0.outputs[0].address })
      if let work { return (contexts.count, work, Memory(contexts)) }
    }
    return (1, nil, Memory([]))
  }

  private func context(_ step: Step, _ backend: CUDABackend) throws(TensorError) -> StepContext {
    func operand(
      _ value: (slot: Slot, shape: [Int], dtype: DType)
    ) throws(TensorError) -> Operand {
      guard let buffer = value.slot.buffer as? CUDABuffer, buffer.device === device else {
        throw .unsupported(op: "memory of another device", backend: backend.name, path: step.path)
      }
      return Operand(
        address: buffer.address + UInt64(value.slot.offset * 4), shape: value.shape, dtype: value.dtype)
    }
    var (inputs, outputs): ([Operand], [Operand]) = ([], [])
    for input in step.inputs { inputs.append(try operand(input)) }
    for output in step.outputs { outputs.append(try operand(output)) }
    return StepContext(
      inputs: inputs, outputs: outputs, multiprocessors: device.multiprocessors,
      capability: device.capability, leastTried: backend.trials.leastBytes)
  }

  private func draft(
    _ step: Step, _ backend: CUDABackend
  ) throws(TensorError) -> (work: Work?, product: MatrixProduct?) {
    let context = try context(step, backend)
    let (inputs, outputs) = (context.inputs, context.outputs)
    memory.append(Memory([context]))
    masks.forget(outputs.map(\.range))
    if let ranks = backend.group, let calls = CUDARanks.calls(step.op, context) {
      exchanges[memory.count - 1] = .exchange(ranks, calls)
      memory[memory.count - 1].writes.append(CUDARanks.turn)
      return (nil, nil)
    }
    if outputs.allSatisfy({ $0.count == 0 }) { return (nil, nil) }
    let adding = step.op as? MatMulAdd
    if let op = step.op as? MatMul ?? adding?.product, inputs.allSatisfy({ $0.count > 0 }),
      inputs[0].dtype == inputs[1].dtype
    {
      if let work = KernelTable.skinny(op, context, scale: adding?.scale ?? 1) { return (work, nil) }
      let product = try MatrixProduct(backend, op, inputs, outputs[0], scale: adding?.scale ?? 1)
      // What is added must be of the result's type.
      guard adding?.adds == true, inputs[2].dtype != outputs[0].dtype else { return (nil, product) }
      let converted = StepContext(
        inputs: [inputs[2]], outputs: outputs, multiprocessors: device.multiprocessors,
        capability: device.capability)
      return (KernelTable.work(Cast(to: outputs[0].dtype), converted), product)
    }
    if let (work, summary, isNew) = try masks.work(step.op, context, device) {
      if isNew { memory[memory.count - 1].writes.append(summary) }
      if !isNew { memory[memory.count - 1].reads.append(summary) }
      return (work, nil)
    }
    guard let work = KernelTable.work(step.op, context) else {
      throw .unsupported(op: step.op.name, backend: backend.name, path: step.path)
    }
    note(work, step, context)
    return (work, nil)
  }

  /// Keeps a step whose work has alternatives for the choice between them.
  private func note(_ work: Work, _ step: Step, _ context: StepContext) {
    if work.alternatives.isEmpty { return }
    let op = step.op
    let shapes = { (operands: [Operand]) in operands.map { "\($0.shape)" }.joined(separator: " ") }
    candidates[memory.count - 1] = StepChoices.Candidate(
      title: "\(op.name) \(shapes(context.inputs)) to \(shapes(context.outputs))", work: work,
      trial: StepTrial(context: context) { KernelTable.work(op, $0) })
  }

  private func finish(
    _ work: Work?, _ product: MatrixProduct?, _ compiler: KernelCompiler, _ scratch: UInt64
  ) throws(TensorError) -> [Command] {
    var result: [Command] = []
    for launch in work?.launches ?? [] {
      let function = try compiler.function(launch.kernel, shared: launch.shared)
      var arguments: [Argument] = []
      for argument in launch.arguments {
        switch argument {
        case .scratch(let offset): arguments.append(.address(scratch + UInt64(offset)))
        case .table(let words):
          let table = try CUDABuffer(device, words.count * 2)
          try table.write(words: words)
          tables.append(table)
          arguments.append(.address(table.address))
        case .matrix(let matrix): arguments.append(.words(try matrix.map()))
        default: arguments.append(argument)
        }
      }
      result.append(.kernel(function: function, launch, arguments))
    }
    if let product { result.append(.product(product, scratch: scratch)) }
    return result
  }

  /// What `work` puts on the stream, as a graph.
  func recorded(
    _ work: () throws(TensorError) -> Void
  ) throws(TensorError) -> UnsafeMutableRawPointer? {
    // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    try CUDADevice.check(flow_cuStreamBeginCapture(device.stream, 1), "recording a step")
    var problem: TensorError?
    do throws(TensorError) { try work() } catch { problem = error }
    var (recorded, made): (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) = (nil, nil)
    let status = flow_cuStreamEndCapture(device.stream, &recorded)
    if let problem { throw problem }
    try CUDADevice.check(status, "recording a step")
    defer { flow_cuGraphDestroy(recorded) }
    try CUDADevice.check(flow_cuGraphInstantiate(&made, recorded, 0), "making a step's graph")
    return made
  }

  /// Each step after those that it must wait for, so that the device runs others beside it; one after another where the
  /// driver can't be told.
  private func recordSteps() throws(TensorError) {
    var order = StepOrder()
    var nodes = [[UnsafeMutableRawPointer?]](repeating: [], count: steps.count)
    var ends: Set<Int> = []
    var isFree = true
    for index in commands.indices where !commands[index].isEmpty {
      let before = order.add(index, reads: memory[index].reads, writes: memory[index].writes)
      ends.subtract(before)
      ends.insert(index)
      if isFree { isFree = try follow(before.flatMap { nodes[$0] }) }
      for command in commands[index] { try enqueue(command) }
      if isFree { nodes[index] = try lastNodes() }
    }
    // What follows in the stream follows all of them.
    if isFree { _ = try follow(ends.sorted().flatMap { nodes[$0] }) }
  }

  /// Lets what is recorded next follow `nodes` alone; false when the driver can't.
  private func follow(_ nodes: [UnsafeMutableRawPointer?]) throws(TensorError) -> Bool {
    var nodes = nodes
    // CU_STREAM_SET_CAPTURE_DEPENDENCIES
    let status = flow_cuStreamUpdateCaptureDependencies(device.stream, &nodes, nodes.count, 1)
    if status == Int32(FLOW_CUDA_MISSING) { return false }
    try CUDADevice.check(status, "ordering steps")
    return true
  }

  /// What was recorded last.
  private func lastNodes() throws(TensorError) -> [UnsafeMutableRawPointer?] {
    var (status, id, count): (Int32, UInt64, Int) = (0, 0, 0)
    var graph: UnsafeMutableRawPointer?
    var nodes: UnsafePointer<UnsafeMutableRawPointer?>?
    try CUDADevice.check(
      flow_cuStreamGetCaptureInfo(device.stream, &status, &id, &graph, &nodes, &count), "ordering steps")
    return Array(UnsafeBufferPointer(start: nodes, count: count))
  }

  func enqueue(_ command: Command) throws(TensorError) {
    switch command {
    case .product(let product, let scratch): try product.enqueue(scratch: scratch)
    case .exchange(let ranks, let calls): try ranks.enqueue(calls)
    case .kernel(let function, let launch, let arguments): try device.launch(function, launch, arguments)
    }
  }
}
