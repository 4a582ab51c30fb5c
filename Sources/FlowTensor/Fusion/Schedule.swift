/// One kernel call of a program, before memory is assigned.
struct Unit {
  let op: any Op
  let inputs: [(value: Value, shape: [Int], dtype: DType)]
  let outputs: [(value: Value, shape: [Int], dtype: DType)]
  /// The module that recorded it.
  let path: String
}

/// What a program computes, in order: the needed ops of a graph, views resolved away, groups fused.
struct Schedule {
  private let graph: Graph
  private(set) var units: [Unit] = []
  /// The nodes needed, ascending.
  let needed: [Int]

  /// What `roots` need, for `backend`.
  /// - Throws: `TensorError` of the ops.
  init(_ graph: Graph, roots: [Tensor], fuse: Bool, for backend: any Backend) throws(TensorError) {
    let kept = Set(roots.map { Schedule.resolve($0) })
    let recorded = Schedule.reachable(graph, roots)
    let adds = fuse && backend.addsInProducts
    let graph = adds ? graph.addingInProducts(recorded, kept: kept) : graph
    self.graph = graph
    needed = adds ? Schedule.reachable(graph, roots) : recorded
    var grouping = Grouping(
      graph, needed: needed, kept: kept, widest: backend.widestRow, resolve: Schedule.resolve)
    grouping.run(joining: fuse, alone: backend.fusesAlone)
    var readOutside = kept
    var drafts: [(key: Int, members: [Int])] = []
    for index in needed {
      guard case .op(let op, let inputs) = graph.nodes[index].source, !op.isView else { continue }
      for value in inputs.map(Schedule.resolve)
      where grouping.group[value.node] !== grouping.group[index] { readOutside.insert(value) }
      if let group = grouping.group[index] {
        if group.members.first == index { drafts.append((group.members.last ?? index, group.members)) }
      } else {
        // What ranks add up is under way as soon as it is there, while other gradients are made.
        drafts.append((op is RankReduce ? 0 : index, [index]))
      }
    }
    for draft in order(drafts) {
      if let group = grouping.group[draft[0]] {
        units.append(try fused(group, readOutside: readOutside))
      } else {
        units.append(single(draft[0]))
      }
    }
    if backend.turnsAttention { units = Turned(units, kept: kept).units }
    if let narrowing = backend.narrowing {
      units = Narrowed(units, kept: kept, firstFree: graph.nodes.count, by: narrowing).units
    }
  }

  /// The value whose memory a tensor is: views are their input under another shape.
  static func resolve(_ tensor: Tensor) -> Value {
    var tensor = tensor
    while case .op(let op, let inputs) = tensor.graph.nodes[tensor.node].source, op.isView {
      tensor = inputs[0]
    }
    return Value(tensor)
  }

  private static func reachable(_ graph: Graph, _ roots: [Tensor]) -> [Int] {
    var found = [Bool](repeating: false, count: graph.nodes.count)
    var stack = roots.map(\.node)
    while let index = stack.popLast() {
      if found[index] { continue }
      found[index] = true
      if case .op(_, let inputs) = graph.nodes[index].source { stack += inputs.map(\.node) }
    }
    return found.indices.filter { found[$0] }
  }

  /// Members in an order in which each comes after what it needs; else as recorded, a group at its last op. What needs a
  /// group waits for it: else, all that the group's other ops need would be brought forward, and kept until it is read.
  private func order(_ drafts: [(key: Int, members: [Int])]) -> [[Int]] {
    var owner = [Int](repeating: -1, count: graph.nodes.count)
    for (position, draft) in drafts.enumerated() { for index in draft.members { owner[index] = position } }
    let sorted = drafts.indices.sorted { drafts[$0].key < drafts[$1].key }
    var done = [Bool](repeating: false, count: drafts.count)
    var result: [(draft: Int, due: Int)] = []
    var due = drafts.map(\.key)
    /// The drafts that a draft reads, the last that its ops read first.
    func needs(_ draft: Int) -> [Int] {
      drafts[draft].members.reversed().flatMap { index -> [Int] in
        guard case .op(_, let inputs) = graph.nodes[index].source else { return [] }
        return inputs.map { owner[Schedule.resolve($0).node] }.filter { $0 >= 0 && $0 != draft }
      }
    }
    // Depth first, without recursion: a draft is entered, then what it needs, then it is taken.
    for start in sorted {
      var stack = [(draft: start, entered: false)]
      while let (draft, entered) = stack.popLast() {
        if done[draft] { continue }
        if entered {
          done[draft] = true
          for before in needs(draft) { due[draft] = max(due[draft], due[before]) }
          result.append((draft, due[draft]))
          continue
        }
        stack.append((draft, true))
        for before in needs(draft) where !done[before] { stack.append((before, false)) }
      }
    }
    // Of those due at once, each already comes after what it needs.
    return result.enumerated().sorted { ($0.element.due, $0.offset) < ($1.element.due, $1.offset) }.map {
      drafts[$0.element.draft].members
    }
  }

  private func single(_ index: Int) -> Unit {
    let node = graph.nodes[index]
    guard case .op(let op, let inputs) = node.source else { preconditionFailure("only ops are scheduled") }
    return Unit(
      op: op, inputs: inputs.map { (Schedule.resolve($0), $0.shape, $0.dtype) },
      outputs: node.shapes.enumerated().map {
        (Value(node: index, output: $0.offset), $0.element, node.dtype)
      },
      path: node.path)
  }

  private func fused(_ group: Grouping.Group, readOutside: Set<Value>) throws(TensorError) -> Unit {
    var outputs: [Value] = []
    for index in group.members {
      for output in graph.nodes[index].shapes.indices {
        let value = Value(node: index, output: output)
        if readOutside.contains(value) { outputs.append(value) }
      }
    }
    let width = group.width ?? 1
    var builder = RowBuilder(rows: group.elements / width, width: width, outputs: outputs)
    var shapes: [Value: [Int]] = [:]
    var parts: [Fused.Member] = []
    for index in group.members {
      guard case .op(let op, let inputs) = graph.nodes[index].source, let op = op as? any RowOp,
        let form = op.form(inputs.map(\.shape))
      else { throw .argument(op: "fused", problem: "a member can't be fused", path: graph.nodes[index].path) }
      let values = inputs.map(Schedule.resolve)
      let results = graph.nodes[index].shapes.indices.map { Value(node: index, output: $0) }
      let extent = group.extents[results[0]] ?? .full
      var registers: [Int] = []
      for (position, value) in values.enumerated() {
        switch form {
        case .elementwise(let patterns):
          let pattern = patterns[position]
          registers.append(builder.operand(value, extent, pattern))
        case .rowsBeside(_, let tables) where position > 0:
          registers.append(builder.operand(value, .full, tables[position - 1]))
        case .rows, .rowsBeside, .columns, .total:
          registers.append(builder.operand(value, .full, Pattern(dense: inputs[position].shape)))
        }
        shapes[value] = inputs[position].shape
      }
      op.lower(registers, as: results, extent, in: &builder)
      parts.append(
        Fused.Member(
          op: op,
          inputs: values.map { value in
            if let at = group.members.firstIndex(of: value.node) { return .member(at, output: value.output) }
            return .input(builder.inputs.firstIndex(of: value) ?? 0)
          }, shapes: inputs.map(\.shape), outputs: results.map { outputs.firstIndex(of: $0) }))
    }
    let reusable = outputs.indices.map { builder.reusable($0) }
    let inputs = builder.inputs
    let results = outputs.map { ($0, graph.nodes[$0.node].shapes[$0.output], DType.float32) }
    let op = Fused(
      program: builder.finish(), members: parts, shapes: results.map(\.1), reusable: reusable)
    return Unit(
      op: op, inputs: inputs.map { ($0, shapes[$0] ?? [], .float32) }, outputs: results,
      path: commonPath(group.members))
  }

  /// The innermost module that all of the nodes which belong to one belong to.
  private func commonPath(_ members: [Int]) -> String {
    let paths = members.map { graph.nodes[$0].path }.filter { !$0.isEmpty }.map { $0.split(separator: ".") }
    guard var common = paths.first else { return "" }
    for path in paths {
      let shared = zip(common, path).prefix { $0 == $1 }.count
      common = Array(common[..<shared])
    }
    return common.joined(separator: ".")
  }
}
