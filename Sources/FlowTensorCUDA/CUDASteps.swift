import CCUDA
import FlowTensor

/// A program's steps on the device, recorded once as a graph. A run is one launch, and takes no memory.
final class CUDASteps: PreparedSteps {
  /// What is put on the stream.
  private enum Command {
    case kernel(function: UnsafeMutableRawPointer?, Launch, [Argument])
    case product(MatrixProduct)
  }

  private let device: CUDADevice
  /// The commands of each step.
  private var commands: [[Command]] = []
  private var scratch: CUDABuffer?
  private var tables: [CUDABuffer] = []
  /// What the addresses point into.
  private let steps: [Step]
  private var graph: UnsafeMutableRawPointer?
  private var events: [UnsafeMutableRawPointer?] = [nil, nil]

  init(_ backend: CUDABackend, _ steps: [Step]) throws(TensorError) {
    device = backend.device
    self.steps = steps
    try device.use()
    var drafts: [(work: Work?, product: MatrixProduct?)] = []
    for step in steps { drafts.append(try draft(step, backend)) }
    try backend.compiler.prepare(Set(drafts.flatMap { $0.work?.launches.map(\.kernel) ?? [] }))
    let most =
      drafts.map { draft in
        draft.product == nil ? draft.work?.scratch ?? 0 : MatrixProduct.workspace
      }.max() ?? 0
    let buffer = try CUDABuffer(device, max(64, most / 4))
    scratch = buffer
    for draft in drafts { commands.append(try finish(draft.work, draft.product, backend.compiler, buffer)) }
    for index in events.indices {
      try CUDADevice.check(flow_cuEventCreate(&events[index], 0), "making an event")
    }
    try record()
  }

  deinit {
    guard (try? device.use()) != nil else { return }
    if graph != nil { flow_cuGraphExecDestroy(graph) }
    for event in events where event != nil { flow_cuEventDestroy(event) }
  }

  func run() throws(TensorError) {
    try device.use()
    if graph != nil { try CUDADevice.check(flow_cuGraphLaunch(graph, device.stream), "starting a step") }
  }

  func time(step index: Int) throws(TensorError) -> Double {
    try device.use()
    try CUDADevice.check(flow_cuEventRecord(events[0], device.stream), "timing")
    for command in commands[index] { try enqueue(command) }
    try CUDADevice.check(flow_cuEventRecord(events[1], device.stream), "timing")
    try CUDADevice.check(flow_cuEventSynchronize(events[1]), "running \(steps[index].op.name)")
    var milliseconds: Float = 0
    try CUDADevice.check(flow_cuEventElapsedTime(&milliseconds, events[0], events[1]), "timing")
    return Double(milliseconds) * 1e-3
  }

  // MARK: Preparation

  private func draft(
    _ step: Step, _ backend: CUDABackend
  ) throws(TensorError) -> (work: Work?, product: MatrixProduct?) {
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
    if outputs.allSatisfy({ $0.count == 0 }) { return (nil, nil) }
    if let op = step.op as? MatMul, inputs.allSatisfy({ $0.count > 0 }), inputs[0].dtype == inputs[1].dtype {
      let product = try MatrixProduct(
        device, op, inputs, outputs[0], allowTensorFloat: backend.precision != .float32)
      return (nil, product)
    }
    let context = StepContext(
      inputs: inputs, outputs: outputs, multiprocessors: device.multiprocessors, capability: device.capability
    )
    guard let work = KernelTable.work(step.op, context) else {
      throw .unsupported(op: step.op.name, backend: backend.name, path: step.path)
    }
    return (work, nil)
  }

  private func finish(
    _ work: Work?, _ product: MatrixProduct?, _ compiler: KernelCompiler, _ scratch: CUDABuffer
  ) throws(TensorError) -> [Command] {
    if let product { return [.product(product)] }
    var result: [Command] = []
    for launch in work?.launches ?? [] {
      let function = try compiler.function(launch.kernel)
      if launch.shared > 48 << 10 {
        // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        try CUDADevice.check(
          flow_cuFuncSetAttribute(function, 8, Int32(launch.shared)),
          "giving \(launch.kernel.title) \(launch.shared) bytes of shared memory")
      }
      var arguments: [Argument] = []
      for argument in launch.arguments {
        switch argument {
        case .scratch(let offset): arguments.append(.address(scratch.address + UInt64(offset)))
        case .table(let words):
          let table = try CUDABuffer(device, words.count * 2)
          try table.write(words: words)
          tables.append(table)
          arguments.append(.address(table.address))
        default: arguments.append(argument)
        }
      }
      result.append(.kernel(function: function, launch, arguments))
    }
    return result
  }

  /// Records all commands as a graph.
  private func record() throws(TensorError) {
    guard commands.contains(where: { !$0.isEmpty }) else { return }
    // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    try CUDADevice.check(flow_cuStreamBeginCapture(device.stream, 1), "recording a step")
    var problem: TensorError?
    do throws(TensorError) {
      for command in commands.joined() { try enqueue(command) }
    } catch { problem = error }
    var recorded: UnsafeMutableRawPointer?
    let status = flow_cuStreamEndCapture(device.stream, &recorded)
    if let problem { throw problem }
    try CUDADevice.check(status, "recording a step")
    defer { flow_cuGraphDestroy(recorded) }
    try CUDADevice.check(flow_cuGraphInstantiate(&graph, recorded, 0), "making a step's graph")
  }

  private func enqueue(_ command: Command) throws(TensorError) {
    switch command {
    case .product(let product): try product.enqueue(scratch: scratch?.address ?? 0)
    case .kernel(let function, let launch, let arguments):
      // Every argument in 8 bytes of its own.
      var words = [UInt64](repeating: 0, count: arguments.count)
      words.withUnsafeMutableBytes { bytes in
        for (index, argument) in arguments.enumerated() {
          switch argument {
          case .address(let value): bytes.storeBytes(of: value, toByteOffset: index * 8, as: UInt64.self)
          case .int(let value): bytes.storeBytes(of: value, toByteOffset: index * 8, as: Int32.self)
          case .long(let value): bytes.storeBytes(of: value, toByteOffset: index * 8, as: Int64.self)
          case .float(let value): bytes.storeBytes(of: value, toByteOffset: index * 8, as: Float.self)
          case .scratch, .table: break
          }
        }
      }
      let status = words.withUnsafeMutableBytes { bytes in
        var pointers = arguments.indices.map { index in bytes.baseAddress.map { $0 + index * 8 } }
        return pointers.withUnsafeMutableBufferPointer {
          flow_cuLaunchKernel(
            function, UInt32(launch.grid.0), UInt32(launch.grid.1), UInt32(launch.grid.2),
            UInt32(launch.threads), 1, 1,
            UInt32(launch.shared), device.stream, $0.baseAddress, nil)
        }
      }
      try CUDADevice.check(status, "launching \(launch.kernel.entry) of \(launch.kernel.title)")
    }
  }
}
