/// A value of a graph: an output of a node.
package struct Value: Hashable, Sendable {
  let node: Int
  let output: Int
}

extension Value {
  init(_ tensor: Tensor) { self.init(node: tensor.node, output: tensor.output) }
}

/// Finds which ops of a graph are computed together. A group is one pass over memory: ops over the same rows, of which
/// each is read by the next or reads what another reads, and that no op outside stands between.
struct Grouping {
  /// Ops that become one, by increasing node.
  final class Group {
    /// Most ops of a group.
    static let most = 32
    var members: [Int] = []
    /// Extents of the values computed in it.
    var extents: [Value: RowProgram.Extent] = [:]
    let elements: Int
    /// Elements of a row, once a member depends on it.
    var width: Int?
    init(elements: Int) { self.elements = elements }
  }

  private let graph: Graph
  /// Values of the nodes that are computed, views resolved.
  private let resolve: (Tensor) -> Value
  private let needed: [Int]
  /// How many ops that are never fused come before each node.
  private var heavy: [Int]
  private var consumers: [Value: [Int]] = [:]
  private let kept: Set<Value>
  private let widest: Int
  private(set) var group: [Group?]
  private var lastReader: [Value: Group] = [:]
  private var visited: [Int]
  private var visit = 0

  /// - Parameters:
  ///   - needed: the nodes to compute, ascending.
  ///   - kept: values that are results.
  ///   - widest: elements of the widest row.
  init(
    _ graph: Graph, needed: [Int], kept: Set<Value>, widest: Int, resolve: @escaping (Tensor) -> Value
  ) {
    self.widest = widest
    self.graph = graph
    self.needed = needed
    self.kept = kept
    self.resolve = resolve
    heavy = [Int](repeating: 0, count: graph.nodes.count + 1)
    group = [Group?](repeating: nil, count: graph.nodes.count)
    visited = [Int](repeating: 0, count: graph.nodes.count)
    var isNeeded = [Bool](repeating: false, count: graph.nodes.count)
    for index in needed { isNeeded[index] = true }
    for index in graph.nodes.indices {
      heavy[index + 1] = heavy[index]
      guard isNeeded[index], case .op(let op, let inputs) = graph.nodes[index].source, !op.isView else {
        continue
      }
      if !(op is any RowOp) { heavy[index + 1] += 1 }
      for input in inputs { consumers[resolve(input), default: []].append(index) }
    }
  }

  /// Makes the groups; one of a single op is dissolved if the op has a kernel, and not `alone`. Without `joining` there are no
  /// others.
  mutating func run(joining: Bool, alone: (any Op) -> Bool) {
    var single: [Int] = []
    for index in needed {
      guard case .op(let op, let inputs) = graph.nodes[index].source, let op = op as? any RowOp, !op.isView,
        graph.nodes[index].dtype == .float32
      else { continue }
      let isAlone = op.isAlwaysFused || alone(op)
      if !isAlone { single.append(index) }
      if joining { place(index, op, inputs) } else if isAlone { start(index, op, inputs) }
    }
    for index in single where group[index]?.members.count == 1 { group[index] = nil }
  }

  private mutating func place(_ index: Int, _ op: any RowOp, _ inputs: [Tensor]) {
    let values = inputs.map(resolve)
    var home: Group?
    var candidates: [Group] = []
    for value in values {
      guard let producer = group[value.node], candidates.allSatisfy({ $0 !== producer }) else { continue }
      let inside =
        !kept.contains(value)
        && consumers[value, default: []].allSatisfy {
          $0 == index || group[$0] === producer
        }
      if inside || isNear(index, producer) { candidates.append(producer) }
    }
    if candidates.isEmpty, inputs.count > 1,
      inputs.count(where: { $0.shape.elements == graph.nodes[index].shapes[0].elements }) == 1
    {
      candidates = ofSiblings(index).filter { isNear(index, $0) }
    }
    for value in values {
      guard let reader = lastReader[value], isNear(index, reader) else { continue }
      if candidates.allSatisfy({ $0 !== reader }) { candidates.append(reader) }
    }
    for candidate in candidates {
      if let current = home {
        if let merged = merge(current, candidate) { home = merged }
      } else if fit(index, op, inputs, candidate) != nil, !reaches(candidate, from: values) {
        add(index, op, inputs, to: candidate)
        home = candidate
      }
    }
    if home == nil { start(index, op, inputs) }
    if let home { for value in values { lastReader[value] = home } }
  }

  /// The groups of what is read together with an op's result. A multiple of a value by a row's or a column's number costs a
  /// group that makes it for itself no more to read than if it read it from where a group that only has the same input wrote
  /// it.
  private func ofSiblings(_ index: Int) -> [Group] {
    var found: [Group] = []
    for reader in consumers[Value(node: index, output: 0), default: []] {
      guard case .op(_, let inputs) = graph.nodes[reader].source else { continue }
      for node in inputs.map({ resolve($0).node }) where node < index {
        if let group = group[node], found.allSatisfy({ $0 !== group }) { found.append(group) }
      }
    }
    return found
  }

  private func isNear(_ index: Int, _ group: Group) -> Bool {
    guard let last = group.members.last else { return false }
    return heavy[index] - heavy[last] <= 3
  }

  private mutating func start(_ index: Int, _ op: any RowOp, _ inputs: [Tensor]) {
    let shape = op is Sum ? inputs[0].shape : graph.nodes[index].shapes[0]
    let new = Group(elements: shape.elements)
    guard new.elements > 0 || op.isAlwaysFused, fit(index, op, inputs, new) != nil else { return }
    add(index, op, inputs, to: new)
    for input in inputs { lastReader[resolve(input)] = new }
  }

  private mutating func add(_ index: Int, _ op: any RowOp, _ inputs: [Tensor], to group: Group) {
    guard let fit = fit(index, op, inputs, group) else { return }
    group.width = fit.width
    group.members.append(index)
    for (output, extent) in fit.extents.enumerated() {
      group.extents[Value(node: index, output: output)] = extent
    }
    self.group[index] = group
  }

  /// The group's width and the extents of the op's outputs if it joins, or `nil` when it can't.
  private func fit(
    _ index: Int, _ op: any RowOp, _ inputs: [Tensor], _ group: Group
  ) -> (width: Int?, extents: [RowProgram.Extent])? {
    guard let form = op.form(inputs.map(\.shape)), group.members.count < Group.most else { return nil }
    let inner = inputs.map { group.extents[resolve($0)] }
    guard inner.allSatisfy({ $0 != .columns && $0 != .total }) else { return nil }
    let whole = inputs[0].shape.elements == group.elements && inner[0] != .small
    func rows(_ width: Int) -> Bool {
      whole && width > 0 && width <= widest && (group.width ?? width) == width
    }
    switch form {
    case .elementwise(let patterns):
      guard patterns.allSatisfy({ $0.shape.count <= Pattern.mostAxes }) else { return nil }
      let count = graph.nodes[index].shapes[0].elements
      if count == group.elements {
        for (pattern, extent) in zip(patterns, inner) {
          switch extent {
          case .full where !pattern.isDense: return nil
          case .small where !(group.width.map(pattern.isPerRow) ?? false): return nil
          default: break
          }
        }
        return (group.width, [.full])
      }
      guard let width = group.width, count * width == group.elements else { return nil }
      for (pattern, extent) in zip(patterns, inner) {
        if extent == .full || (extent == .small && !pattern.isDense) { return nil }
      }
      return (width, [.small])
    case .rows(let width, let outputs): return rows(width) ? (width, outputs) : nil
    case .rowsBeside(let width, let tables):
      let areOutside = inner.dropFirst().allSatisfy { $0 == nil }
      return rows(width) && areOutside && tables.allSatisfy { $0.shape.count <= Pattern.mostAxes }
        ? (width, [.full]) : nil
    case .columns(let width): return rows(width) && width >= 8 ? (width, [.columns]) : nil
    case .total:
      if rows(group.elements) { return (group.elements, [.small]) }
      return whole ? (group.width, [.total]) : nil
    }
  }

  /// One group of both, or `nil` when there is none.
  private mutating func merge(_ a: Group, _ b: Group) -> Group? {
    guard a !== b, a.elements == b.elements, a.members.count + b.members.count <= Group.most else {
      return nil
    }
    let members = (a.members + b.members).sorted()
    let joint = Group(elements: a.elements)
    // What needs the width goes by what sets it.
    joint.width = a.width ?? b.width
    guard a.width == nil || b.width == nil || a.width == b.width else { return nil }
    var outside: [Value] = []
    let together = Set(members)
    for index in members {
      guard case .op(let op, let inputs) = graph.nodes[index].source, let op = op as? any RowOp,
        let fit = fit(index, op, inputs, joint)
      else { return nil }
      joint.width = fit.width
      joint.members.append(index)
      for (output, extent) in fit.extents.enumerated() {
        joint.extents[Value(node: index, output: output)] = extent
      }
      outside += inputs.map(resolve).filter { !together.contains($0.node) }
    }
    if reaches(a, from: outside) || reaches(b, from: outside) { return nil }
    for index in members { group[index] = joint }
    for (value, reader) in lastReader where reader === a || reader === b { lastReader[value] = joint }
    return joint
  }

  /// Whether computing `values` needs the group, by way of ops outside it.
  private mutating func reaches(_ target: Group, from values: [Value]) -> Bool {
    visit += 1
    var stack = values.filter { group[$0.node] !== target }.map(\.node)
    var count = 0
    while let index = stack.popLast() {
      if visited[index] == visit { continue }
      visited[index] = visit
      count += 1
      if count > 20_000 { return true }
      if group[index] === target { return true }
      for member in group[index]?.members ?? [index] {
        visited[member] = visit
        if case .op(_, let inputs) = graph.nodes[member].source {
          for input in inputs {
            let node = resolve(input).node
            if visited[node] != visit { stack.append(node) }
          }
        }
      }
    }
    return false
  }
}
