/// A recorded step, planned and ready to be replayed: buffers are assigned by liveness once, a run allocates nothing on
/// the device. Not thread-safe.
public final class Program {
  private let backend: any Backend
  let graph: Graph
  private(set) var kernels: (any PreparedSteps)?
  private(set) var steps: [Step] = []
  private var inputs = ProgramInputs()
  private var outputSlots: [(name: String, slot: Slot, shape: [Int], dtype: DType, offset: Int)] = []
  private var outputs: (any OutputStage)?
  /// Parameters in others' memory.
  private var borrowed: [(name: String, keeper: any MemoryKeeper)] = []
  /// What intermediate values lie in.
  private(set) var arena: (any DeviceBuffer)?
  /// 4-byte words of the arena that intermediate values share.
  public private(set) var arenaCount = 0
  /// Bytes that it takes beside those and the store's parameters: inputs, constants, and what its kernels need.
  public private(set) var ownBytes = 0
  /// The step during which most of them are alive, and those, by the step that makes each, with their words.
  private(set) var fullest: (step: Int, values: [(maker: Int, output: Int, words: Int)]) = (0, [])

  /// Plans what `outputs` and the graph's assignments need.
  /// - Throws: `TensorError` when the store lacks a parameter, the backend a kernel, or memory runs out.
  public convenience init(_ graph: Graph, outputs: [String: Tensor], parameters: ParameterStore) throws {
    try self.init(graph, outputs: outputs, parameters: parameters, fuse: true)
  }

  /// As above; without `fuse`, each op is computed alone.
  package init(_ graph: Graph, outputs: [String: Tensor], parameters: ParameterStore, fuse: Bool) throws {
    self.graph = graph
    backend = parameters.backend
    try build(outputs: outputs, parameters: parameters, fuse: fuse)
  }

  /// Runs the step: the inputs by name to the outputs by name.
  /// - Throws: `TensorError.input` when an input is missing, has another shape or type, or an index outside its table;
  ///   `TensorError.parameter` when memory that a parameter was borrowed from has lost it.
  public func run(_ values: [String: HostTensor] = [:]) throws -> [String: HostTensor] {
    try inputs.put(values)
    try kernels?.run()
    try checkBorrowed()
    var results: [String: HostTensor] = [:]
    for output in outputSlots {
      results[output.name] = try output.slot.buffer.read(output.shape, output.dtype, at: output.slot.offset)
    }
    return results
  }

  /// Begins a run, which a device with memory of its own goes on with while the caller does other things, and gives what waits
  /// for its outputs. It is to be called before the next run; other programs may begin theirs before.
  /// - Throws: as `run`.
  public func start(_ values: [String: HostTensor]) throws -> () throws -> [String: HostTensor] {
    let words = outputSlots.last.map { $0.offset + $0.dtype.words($0.shape.elements) } ?? 0
    if outputs == nil { outputs = try backend.makeOutputStage(words) }
    guard let outputs else {
      let results = try run(values)
      return { results }
    }
    try inputs.put(values)
    try kernels?.run()
    for output in outputSlots {
      try outputs.take(output.dtype.words(output.shape.elements), from: output.slot, to: output.offset)
    }
    return {
      try self.checkBorrowed()
      var results: [String: HostTensor] = [:]
      for output in self.outputSlots {
        let values = try HostTensor.Values(output.dtype, count: output.shape.elements) {
          (bytes) throws(TensorError) in try outputs.read(bytes, at: output.offset)
        }
        results[output.name] = try HostTensor(values, output.shape)
      }
      return results
    }
  }

  /// Begins to bring inputs of the next run to a device that has memory of its own, beside what it computes; those that aren't
  /// given are left to that run, and so is what isn't given again then.
  /// - Throws: `TensorError.input` when one has another shape or type than is wanted, or an index outside its table.
  public func stage(_ values: [String: HostTensor]) throws {
    let before = inputs.stageBytes
    try inputs.stage(values, on: backend)
    ownBytes += inputs.stageBytes - before
  }

  private func checkBorrowed() throws(TensorError) {
    for (name, keeper) in borrowed {
      if let fault = keeper.fault { throw TensorError.parameter("parameter '\(name)': \(fault)") }
    }
  }

  /// Floating-point operations of a run.
  public var flops: Int {
    steps.reduce(0) { $0 + $1.op.flops($1.inputs.map(\.shape), $1.outputs.map(\.shape)) }
  }

  /// Those of matrix products, convolutions and attention: what can go at the speed of the matrix product.
  public var productFlops: Int {
    steps.filter { $0.op.isProduct }.reduce(0) {
      $0 + $1.op.flops($1.inputs.map(\.shape), $1.outputs.map(\.shape))
    }
  }

  /// The names of the steps, in order.
  var operations: [String] { steps.map(\.op.name) }

  // MARK: Planning

  private func build(outputs: [String: Tensor], parameters: ParameterStore, fuse: Bool) throws {
    let assigned = graph.assignments
    let results = Array(outputs.values) + assigned.map(\.value)
    let schedule = try Schedule(graph, roots: results + assigned.map(\.parameter), fuse: fuse, for: backend)
    let targets = inPlaceAssignments(schedule.units)
    let memory = MemoryPlan(
      schedule.units, kept: Set(results.map(Schedule.resolve)), targets: Set(targets.keys))
    arenaCount = memory.count
    let peak = memory.fullest(schedule.units)
    fullest.step = peak.unit
    for (maker, unit) in schedule.units.enumerated() {
      for (output, result) in unit.outputs.enumerated() {
        if let words = peak.values[result.value] { fullest.values.append((maker, output, words)) }
      }
    }
    var fixed: [Value: Slot] = [:]
    for index in schedule.needed { fixed[Value(node: index, output: 0)] = try makeSlot(index, parameters) }
    for (value, parameter) in targets { fixed[value] = fixed[Value(parameter)] }
    let arena = try parameters.arena(max(1, arenaCount), for: arenaPurpose(schedule.units))
    self.arena = arena
    func slot(_ value: Value) throws -> Slot {
      if let known = fixed[value] { return known }
      guard let offset = memory.offset(value) else { throw TensorError.input("a value has no place") }
      return Slot(buffer: arena, offset: offset)
    }

    let workspaceCount = schedule.units.map {
      backend.workspace($0.op, $0.inputs.map(\.shape), $0.outputs.map(\.shape))
    }
    let workspace = try makeOwn(
      max(1, workspaceCount.max() ?? 1), for: "the scratch memory of the program's kernels")
    steps = try schedule.units.map { unit in
      Step(
        op: unit.op, inputs: try unit.inputs.map { (try slot($0.value), $0.shape, $0.dtype) },
        outputs: try unit.outputs.map { (try slot($0.value), $0.shape, $0.dtype) }, workspace: workspace,
        path: unit.path)
    }
    for (parameter, value) in assigned where targets[Schedule.resolve(value)] == nil {
      steps.append(
        Step(
          op: StridedCopy.whole(value.shape),
          inputs: [(try slot(Schedule.resolve(value)), value.shape, value.dtype)],
          outputs: [(try slot(Value(parameter)), parameter.shape, parameter.dtype)], workspace: workspace,
          path: graph.nodes[value.node].path))
    }
    kernels = try backend.prepare(steps)
    ownBytes += kernels?.bytes ?? 0
    var offset = 0
    for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) {
      outputSlots.append((name, try slot(Schedule.resolve(tensor)), tensor.shape, tensor.dtype, offset))
      offset += tensor.dtype.words(tensor.shape.elements)
    }
  }

  /// Memory of a node that isn't computed: an input's, a parameter's or a constant's.
  private func makeSlot(_ index: Int, _ parameters: ParameterStore) throws -> Slot? {
    let node = graph.nodes[index]
    switch node.source {
    case .input(let name):
      let count = node.dtype.words(node.shapes[0].elements)
      let slot = try makeOwn(count, for: "input '\(name)'")
      inputs.add(name, slot, node.shapes[0], node.dtype, limit: indexLimit(of: index))
      return slot
    case .parameter(let name):
      let (slot, shape, dtype) = try parameters.slot(name)
      guard shape == node.shapes[0] else {
        throw TensorError.parameter(
          "parameter '\(name)' has shape \(shape), the program wants \(node.shapes[0])")
      }
      guard dtype == node.dtype else {
        throw TensorError.parameter(
          "parameter '\(name)' is \(dtype.rawValue), the program wants \(node.dtype.rawValue)")
      }
      if let keeper = slot.buffer.keeper {
        guard !graph.assignments.contains(where: { $0.parameter.node == index }) else {
          throw TensorError.parameter(
            "parameter '\(name)' is read from where it lies, and can't be assigned to")
        }
        borrowed.append((name, keeper))
      }
      return slot
    case .constant(let value):
      let count = value.dtype.words(value.shape.elements)
      let slot = try makeOwn(count, for: "a constant \(value.shape)")
      try slot.buffer.write(value, at: 0)
      return slot
    case .op: return nil
    }
  }

  /// Memory of the program alone.
  private func makeOwn(_ count: Int, for purpose: @autoclosure () -> String) throws -> Slot {
    ownBytes += count * 4
    return Slot(buffer: try backend.makeBuffer(count, for: purpose()), offset: 0)
  }

  /// What the memory of intermediate values is for, with the largest of them, which is the one to look at.
  private func arenaPurpose(_ units: [Unit]) -> String {
    let values = units.flatMap { unit in unit.outputs.map { (unit, $0.shape) } }
    guard let (unit, shape) = values.max(by: { $0.1.elements < $1.1.elements }) else {
      return "the program's intermediate values"
    }
    let place = unit.path.isEmpty ? "" : " in \(unit.path)"
    return "the program's intermediate values, the largest being \(unit.op.name) \(shape)\(place)"
  }

  /// Assigned values that can be computed straight into their parameter: the op overwrites that very input, and
  /// nothing reads the parameter afterwards.
  private func inPlaceAssignments(_ units: [Unit]) -> [Value: Tensor] {
    var lastRead: [Value: Int] = [:]
    var writer: [Value: (position: Int, output: Int)] = [:]
    for (position, unit) in units.enumerated() {
      for input in unit.inputs { lastRead[input.value] = position }
      for (output, result) in unit.outputs.enumerated() { writer[result.value] = (position, output) }
    }
    var targets: [Value: Tensor] = [:]
    for (parameter, value) in graph.assignments {
      let (target, place) = (Value(parameter), Schedule.resolve(value))
      guard let (position, output) = writer[place], lastRead[target] ?? 0 <= position, targets[place] == nil,
        units[position].op.inPlaceInputs(ofOutput: output).contains(where: {
          units[position].inputs[$0].value == target
        })
      else { continue }
      targets[place] = parameter
    }
    return targets
  }

  /// The smallest table that the int32 input `node` indexes, if it does.
  private func indexLimit(of node: Int) -> Int? {
    var limit: Int?
    for other in graph.nodes {
      guard case .op(let op, let inputs) = other.source,
        let indexed = op.indexLimit(inputs.map(\.shape)), Schedule.resolve(inputs[indexed.input]).node == node
      else { continue }
      limit = min(limit ?? indexed.limit, indexed.limit)
    }
    return limit
  }
}
