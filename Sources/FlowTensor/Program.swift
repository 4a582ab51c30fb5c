/// A recorded step, planned and ready to be replayed: buffers are assigned by liveness once, a run allocates nothing on
/// the device. Not thread-safe.
public final class Program {
  private let backend: any Backend
  private let graph: Graph
  private var kernels: [() -> Void] = []
  private var steps: [Step] = []
  private var inputSlots: [(name: String, slot: Slot, shape: [Int], dtype: DType, limit: Int)] = []
  private var outputSlots: [(name: String, slot: Slot, shape: [Int])] = []
  /// Elements of the arena that intermediate values share.
  public private(set) var arenaCount = 0

  /// Plans what `outputs` and the graph's assignments need.
  /// - Throws: `TensorError` when the store lacks a parameter, the backend a kernel, or memory runs out.
  public init(_ graph: Graph, outputs: [String: Tensor], parameters: ParameterStore) throws {
    self.graph = graph
    backend = parameters.backend
    try build(outputs: outputs, parameters: parameters)
  }

  /// Runs the step: the inputs by name to the outputs by name.
  /// - Throws: `TensorError.input` when an input is missing, has another shape or type, or an index outside its table.
  public func run(_ inputs: [String: HostTensor] = [:]) throws -> [String: HostTensor] {
    for input in inputSlots {
      guard let value = inputs[input.name] else {
        throw TensorError.input("no value for input '\(input.name)'")
      }
      guard value.shape == input.shape else {
        throw TensorError.input("input '\(input.name)' has shape \(value.shape), not \(input.shape)")
      }
      switch (value.values, input.dtype) {
      case (.float32(let values), .float32): input.slot.buffer.write(values, at: input.slot.offset)
      case (.int32(let values), .int32):
        if let bad = values.first(where: { $0 < 0 || Int($0) >= input.limit }) {
          throw TensorError.input("input '\(input.name)' has the index \(bad), outside 0..<\(input.limit)")
        }
        input.slot.buffer.write(values, at: input.slot.offset)
      default: throw TensorError.input("input '\(input.name)' must be \(input.dtype.rawValue)")
      }
    }
    for kernel in kernels { kernel() }
    var results: [String: HostTensor] = [:]
    for output in outputSlots {
      results[output.name] = try HostTensor(
        output.slot.buffer.read(output.shape.elements, at: output.slot.offset), output.shape)
    }
    return results
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

  /// A line per step, for people.
  public var listing: String {
    var lines = ["\(steps.count) steps, arena \(arenaCount * 4 / 1024) KiB, \(flops) FLOP"]
    for (index, step) in steps.enumerated() {
      let from = step.inputs.map { "\($0.shape)" }.joined(separator: " ")
      let to = step.outputs.map { "\($0.shape)@\($0.slot.offset)" }.joined(separator: " ")
      lines.append("\(index) \(step.op.name) \(from) -> \(to) \(step.path)")
    }
    return lines.joined(separator: "\n")
  }

  // MARK: Planning

  private struct ValueKey: Hashable {
    let node: Int
    let output: Int
  }

  /// A stretch of memory that one or several values occupy.
  private struct Storage {
    var count: Int
    var first: Int
    var last: Int
    var fixed: Slot?
    var offset = 0
  }

  private func build(outputs: [String: Tensor], parameters: ParameterStore) throws {
    let needed = reachable(Array(outputs.values) + graph.assignments.map(\.value))
    let end = graph.nodes.count
    var lastUse: [ValueKey: Int] = [:]
    for index in needed {
      guard case .op(_, let inputs) = graph.nodes[index].source else { continue }
      for input in inputs { lastUse[ValueKey(node: input.node, output: input.output)] = index }
    }
    for tensor in Array(outputs.values) + graph.assignments.map(\.value) {
      lastUse[ValueKey(node: tensor.node, output: tensor.output)] = end
    }
    let targets = inPlaceAssignments(needed: Set(needed))

    var storages: [Storage] = []
    var place: [ValueKey: Int] = [:]
    func fixed(_ slot: Slot, _ count: Int) -> Int {
      storages.append(Storage(count: count, first: 0, last: end, fixed: slot))
      return storages.count - 1
    }
    for index in needed {
      let node = graph.nodes[index]
      switch node.source {
      case .input(let name):
        let count = max(1, node.shapes[0].elements)
        let slot = Slot(buffer: try backend.makeBuffer(count, for: "input '\(name)'"), offset: 0)
        place[ValueKey(node: index, output: 0)] = fixed(slot, count)
        inputSlots.append((name, slot, node.shapes[0], node.dtype, indexLimit(of: index)))
      case .parameter(let name):
        let (buffer, shape) = try parameters.slot(name)
        guard shape == node.shapes[0] else {
          throw TensorError.parameter(
            "parameter '\(name)' has shape \(shape), the program wants \(node.shapes[0])")
        }
        place[ValueKey(node: index, output: 0)] = fixed(Slot(buffer: buffer, offset: 0), shape.elements)
      case .constant(let values):
        let purpose = "a constant \(node.shapes[0])"
        let slot = Slot(buffer: try backend.makeBuffer(max(1, values.count), for: purpose), offset: 0)
        slot.buffer.write(values, at: 0)
        place[ValueKey(node: index, output: 0)] = fixed(slot, values.count)
      case .op(let op, let inputs):
        for (output, shape) in node.shapes.enumerated() {
          let key = ValueKey(node: index, output: output)
          let last = lastUse[key] ?? index
          if let parameter = targets[key] {
            place[key] = place[ValueKey(node: parameter.node, output: 0)]
            continue
          }
          if op.isView, let from = place[ValueKey(node: inputs[0].node, output: inputs[0].output)] {
            storages[from].last = max(storages[from].last, last)
            place[key] = from
            continue
          }
          if let candidate = op.inPlaceInput(ofOutput: output) {
            let input = inputs[candidate]
            if input.shape == shape, let from = place[ValueKey(node: input.node, output: input.output)],
              storages[from].fixed == nil, storages[from].last <= index,
              storages[from].count == shape.elements
            {
              storages[from].last = max(index, last)
              place[key] = from
              continue
            }
          }
          storages.append(Storage(count: max(1, shape.elements), first: index, last: last))
          place[key] = storages.count - 1
        }
      }
      // A storage lives while any of its values is yet to be read.
      if case .op(_, let inputs) = node.source {
        for input in inputs {
          let key = ValueKey(node: input.node, output: input.output)
          if let at = place[key] { storages[at].last = max(storages[at].last, lastUse[key] ?? index) }
        }
      }
    }

    arenaCount = Program.assignOffsets(&storages)
    let arena = try backend.makeBuffer(max(1, arenaCount), for: arenaPurpose(needed))
    func slot(_ tensor: Tensor) throws -> Slot {
      guard let at = place[ValueKey(node: tensor.node, output: tensor.output)] else {
        throw TensorError.input("a value has no place")
      }
      return storages[at].fixed ?? Slot(buffer: arena, offset: storages[at].offset)
    }

    var workspaceCount = 1
    var drafts: [(op: any Op, inputs: [Tensor], outputs: [Tensor])] = []
    for index in needed {
      guard case .op(let op, let inputs) = graph.nodes[index].source, !op.isView else { continue }
      let shapes = graph.nodes[index].shapes
      let results = shapes.indices.map { Tensor(graph: graph, node: index, output: $0, shape: shapes[$0]) }
      workspaceCount = max(workspaceCount, op.workspace(inputs.map(\.shape), shapes))
      drafts.append((op, inputs, results))
    }
    let workspace = Slot(
      buffer: try backend.makeBuffer(workspaceCount, for: "the scratch memory of the program's kernels"),
      offset: 0)
    for draft in drafts {
      steps.append(
        Step(
          op: draft.op, inputs: try draft.inputs.map { (try slot($0), $0.shape) },
          outputs: try draft.outputs.map { (try slot($0), $0.shape) }, workspace: workspace,
          path: draft.outputs.first.map { graph.nodes[$0.node].path } ?? ""))
    }
    for (parameter, value) in graph.assignments
    where targets[ValueKey(node: value.node, output: value.output)] == nil {
      steps.append(
        Step(
          op: Affine(scale: 1, offset: 0), inputs: [(try slot(value), value.shape)],
          outputs: [(try slot(parameter), parameter.shape)], workspace: workspace,
          path: graph.nodes[value.node].path))
    }
    kernels = try backend.prepare(steps)
    for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) {
      outputSlots.append((name, try slot(tensor), tensor.shape))
    }
  }

  /// What the memory of intermediate values is for, with the largest of them, which is the one to look at.
  private func arenaPurpose(_ needed: [Int]) -> String {
    let ops = needed.filter { if case .op = graph.nodes[$0].source { true } else { false } }
    func size(_ index: Int) -> Int { graph.nodes[index].shapes.map(\.elements).max() ?? 0 }
    guard let index = ops.max(by: { size($0) < size($1) }), case .op(let op, _) = graph.nodes[index].source
    else { return "the program's intermediate values" }
    let node = graph.nodes[index]
    let place = node.path.isEmpty ? "" : " in \(node.path)"
    return "the program's intermediate values, the largest being \(op.name) \(node.shapes[0])\(place)"
  }

  private func reachable(_ roots: [Tensor]) -> [Int] {
    var found = Set<Int>()
    var stack = roots.map(\.node) + graph.assignments.map(\.parameter.node)
    while let index = stack.popLast() {
      guard found.insert(index).inserted else { continue }
      if case .op(_, let inputs) = graph.nodes[index].source { stack += inputs.map(\.node) }
    }
    return found.sorted()
  }

  /// Assigned values that can be computed straight into their parameter: the op overwrites that very input, and
  /// nothing reads the parameter afterwards.
  private func inPlaceAssignments(needed: Set<Int>) -> [ValueKey: Tensor] {
    var lastRead: [Int: Int] = [:]
    for index in needed {
      guard case .op(_, let inputs) = graph.nodes[index].source else { continue }
      for input in inputs { lastRead[input.node] = max(lastRead[input.node] ?? 0, index) }
    }
    var targets: [ValueKey: Tensor] = [:]
    for (parameter, value) in graph.assignments {
      guard case .op(let op, let inputs) = graph.nodes[value.node].source,
        let place = op.inPlaceInput(ofOutput: value.output), inputs[place].node == parameter.node,
        lastRead[parameter.node] ?? 0 <= value.node
      else { continue }
      targets[ValueKey(node: value.node, output: value.output)] = parameter
    }
    return targets
  }

  /// The smallest table that the int32 input `node` indexes.
  private func indexLimit(of node: Int) -> Int {
    var limit = Int(Int32.max)
    for other in graph.nodes {
      guard case .op(let op, let inputs) = other.source, op is Gather, inputs[1].node == node else {
        continue
      }
      limit = min(limit, inputs[0].shape[0])
    }
    return limit
  }

  /// Gives every storage that isn't fixed an offset, so that no two that live at once overlap; the arena's size.
  private static func assignOffsets(_ storages: inout [Storage]) -> Int {
    var size = 0
    var live: [(offset: Int, end: Int, last: Int)] = []
    let order = storages.indices.filter { storages[$0].fixed == nil }.sorted {
      (storages[$0].first, $0) < (storages[$1].first, $1)
    }
    for index in order {
      let count = (storages[index].count + 15) / 16 * 16
      live.removeAll { $0.last < storages[index].first }
      live.sort { $0.offset < $1.offset }
      var best: (offset: Int, room: Int)?
      var cursor = 0
      for span in live {
        let room = span.offset - cursor
        if room >= count, best.map({ room < $0.room }) ?? true { best = (cursor, room) }
        cursor = max(cursor, span.end)
      }
      let offset = best?.offset ?? cursor
      storages[index].offset = offset
      live.append((offset, offset + count, storages[index].last))
      size = max(size, offset + count)
    }
    return size
  }
}
