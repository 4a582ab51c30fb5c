/// Records a step: ops over static shapes. Not thread-safe; a finished graph becomes a `Program`.
public final class Graph {
  /// Where a value comes from.
  public enum Source {
    case input(String)
    case parameter(String)
    case constant(HostTensor)
    case op(any Op, [Tensor])
  }

  struct Node {
    let source: Source
    let shapes: [[Int]]
    let dtype: DType
    /// The module that recorded it.
    let path: String
    /// The part of the step, if any, whose values are computed again for its gradients.
    let region: Int?
  }

  private(set) var nodes: [Node] = []
  /// Whether gradients compute again what costs one pass over values that are kept for them anyway, instead of keeping it.
  package var recomputesCheaply = false
  private(set) var assignments: [(parameter: Tensor, value: Tensor)] = []
  private var names: [String: Tensor] = [:]

  /// An empty graph.
  public init() {}

  /// The module that is recording, as in the checkpoint's parameter names, such as `layers.3.self_attn`.
  public private(set) var path = ""

  /// Runs `body` as the part `name` of the module that is recording: errors, dumps and profiles name it.
  public func scope<R, E: Error>(_ name: String, _ body: () throws(E) -> R) throws(E) -> R {
    try within(path.isEmpty ? name : path + "." + name, body)
  }

  /// Runs `body` as the module `path`, whatever module is recording now.
  public func within<R, E: Error>(_ path: String, _ body: () throws(E) -> R) throws(E) -> R {
    let outer = self.path
    self.path = path
    defer { self.path = outer }
    return try body()
  }

  /// This with other sources of some nodes, for planning.
  func replacing(_ sources: [Int: Source]) -> Graph {
    let result = Graph()
    (result.nodes, result.assignments) = (nodes, assignments)
    for (index, source) in sources {
      let node = nodes[index]
      result.nodes[index] = Node(
        source: source, shapes: node.shapes, dtype: node.dtype, path: node.path, region: node.region)
    }
    return result
  }

  private var region: Int?
  private var regions = 0

  /// Records `body` as a part whose values are not kept for its gradients but computed again from what goes into it
  /// (gradient checkpointing, Chen et al. 2016): less memory for one more forward pass of the part.
  public func recomputing<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    let outer = region
    regions += 1
    region = regions
    defer { region = outer }
    return try body()
  }

  private func append(
    _ source: Source, _ shapes: [[Int]], _ dtype: DType = .float32, as name: @autoclosure () -> String
  ) throws(TensorError) -> Int {
    guard shapes.allSatisfy(\.isValid) else {
      throw .shape(op: name(), shapes: shapes, expected: "no dimension is negative or overflows", path: path)
    }
    nodes.append(Node(source: source, shapes: shapes, dtype: dtype, path: path, region: region))
    return nodes.count - 1
  }

  /// A value known by name: the same one each time, which must be asked for with the same shape and type.
  private func named(
    _ kind: String, _ name: String, _ shape: [Int], _ dtype: DType, _ source: Source
  ) throws(TensorError) -> Tensor {
    let op = "\(kind) '\(name)'"
    guard let known = names["\(kind) \(name)"] else {
      let node = try append(source, [shape], dtype, as: op)
      let tensor = Tensor(graph: self, node: node, output: 0, shape: shape)
      names["\(kind) \(name)"] = tensor
      return tensor
    }
    guard known.shape == shape else {
      throw .shape(op: op, shapes: [known.shape, shape], expected: "it has one shape", path: path)
    }
    guard known.dtype == dtype else {
      throw .dtype(op: op, found: [known.dtype, dtype], expected: "it has one type", path: path)
    }
    return known
  }

  /// A value given at each run.
  /// - Throws: `TensorError` when it was recorded with another shape or type.
  public func input(_ name: String, _ shape: [Int], _ dtype: DType = .float32) throws(TensorError) -> Tensor {
    try named("input", name, shape, dtype, .input(name))
  }

  /// A buffer that persists between runs, by name in a `ParameterStore`.
  /// - Throws: `TensorError` when it was recorded with another shape or type.
  public func parameter(
    _ name: String, _ shape: [Int], _ dtype: DType = .float32
  ) throws(TensorError) -> Tensor {
    try named("parameter", name, shape, dtype, .parameter(name))
  }

  /// A constant.
  public func constant(_ value: HostTensor) throws(TensorError) -> Tensor {
    let node = try append(.constant(value), [value.shape], value.dtype, as: "constant")
    return Tensor(graph: self, node: node, output: 0, shape: value.shape)
  }

  /// A constant of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer values.
  public func constant(_ values: [Float], _ shape: [Int]) throws(TensorError) -> Tensor {
    do throws(TensorError) { return try constant(HostTensor(values, shape)) } catch {
      throw .shape(op: "constant", shapes: [shape], expected: "\(values.count) values are given", path: path)
    }
  }

  /// A scalar constant, shape `[]`.
  public func constant(_ value: Float) throws(TensorError) -> Tensor { try constant([value], []) }

  /// Applies `op`; a tensor per output. 16-bit floats are widened first, unless the op takes any type.
  /// - Throws: `TensorError` with the module path, when the inputs don't fit the op or are of another graph.
  public func apply(_ op: any Op, _ inputs: [Tensor]) throws(TensorError) -> [Tensor] {
    do throws(TensorError) {
      guard inputs.allSatisfy({ $0.graph === self }) else {
        throw .argument(op: op.name, problem: "an input belongs to another graph")
      }
      let inputs = op.takesAnyType ? inputs : try inputs.map { (x) throws(TensorError) in try x.widened() }
      let shapes = try op.outputShapes(inputs.map(\.shape))
      let type = try op.outputType(inputs.map(\.dtype))
      let node = try append(.op(op, inputs), shapes, type, as: op.name)
      return shapes.indices.map { Tensor(graph: self, node: node, output: $0, shape: shapes[$0]) }
    } catch { throw error.at(path) }
  }

  /// At the end of a run, `parameter` holds `value`. All other uses of it in the run see its old content.
  /// - Throws: `TensorError` when `parameter` is none, or `value` has another shape or type.
  public func assign(_ parameter: Tensor, _ value: Tensor) throws(TensorError) {
    guard parameter.graph === self, value.graph === self else {
      throw .argument(op: "assign", problem: "a tensor belongs to another graph", path: path)
    }
    guard case .parameter(let name) = nodes[parameter.node].source else {
      throw .argument(op: "assign", problem: "only a parameter can be assigned to", path: path)
    }
    guard parameter.shape == value.shape else {
      throw .shape(
        op: "assign to '\(name)'", shapes: [parameter.shape, value.shape],
        expected: "the value has the parameter's shape", path: path)
    }
    guard parameter.dtype == value.dtype else {
      throw .dtype(
        op: "assign to '\(name)'", found: [parameter.dtype, value.dtype],
        expected: "the value has the parameter's type", path: path)
    }
    assignments.append((parameter, value))
  }

  /// The gradients of the scalar `loss` with respect to `targets`, as tensors of this graph (zeros where `loss` doesn't
  /// depend on a target). Reverse-mode by graph transformation, so it can be applied to its own results.
  /// - Throws: `TensorError` when `loss` is no scalar of this graph, or an op on the way has no rule.
  public func gradients(
    of loss: Tensor, withRespectTo targets: [Tensor]
  ) throws(TensorError) -> [Tensor] {
    guard loss.shape.elements == 1 else {
      throw .shape(
        op: "gradients", shapes: [loss.shape], expected: "the value that is differentiated is a scalar",
        path: path)
    }
    return try gradients(of: loss, weightedBy: constant([1], loss.shape), withRespectTo: targets)
  }

  /// The gradients of the sum of `value`'s elements, each times that of `weights`: how gradients pass through a part of
  /// a model when those of its result are known.
  /// - Throws: `TensorError` when `weights` has another shape, or an op on the way has no rule.
  public func gradients(
    of value: Tensor, weightedBy weights: Tensor, withRespectTo targets: [Tensor]
  ) throws(TensorError) -> [Tensor] {
    guard ([value, weights] + targets).allSatisfy({ $0.graph === self }) else {
      throw .argument(op: "gradients", problem: "a tensor belongs to another graph", path: path)
    }
    guard weights.shape == value.shape else {
      throw .shape(
        op: "gradients", shapes: [value.shape, weights.shape], expected: "each element has a weight",
        path: path)
    }
    var needed = Set(targets.map(\.node))
    for index in nodes.indices where index <= value.node {
      if case .op(_, let inputs) = nodes[index].source, inputs.contains(where: { needed.contains($0.node) }) {
        needed.insert(index)
      }
    }
    let (forward, again) = (nodes.count, Recomputation(self))
    let results = try flow(value, weights, to: targets, needed, again)
    guard recomputesCheaply else { return results }
    let cheap = CheapValues(self, readBy: results, before: forward)
    if cheap.nodes.isEmpty { return results }
    // Once more, now that it is known what is kept.
    nodes.removeLast(nodes.count - forward)
    return try flow(value, weights, to: targets, needed, Recomputation(self, cheap: cheap.nodes))
  }

  private func flow(
    _ value: Tensor, _ weights: Tensor, to targets: [Tensor], _ needed: Set<Int>, _ again: Recomputation
  ) throws(TensorError) -> [Tensor] {
    var gradient = [Key(value): weights]
    for index in stride(from: value.node, through: 0, by: -1) where needed.contains(index) {
      guard case .op(let op, let inputs) = nodes[index].source else { continue }
      let outputs = nodes[index].shapes.indices.map {
        Tensor(graph: self, node: index, output: $0, shape: nodes[index].shapes[$0])
      }
      let upstream = outputs.map { gradient[Key($0)] }
      if upstream.allSatisfy({ $0 == nil }) { continue }
      // What computes a gradient belongs to the module whose gradient it is.
      try within(nodes[index].path) { () throws(TensorError) in
        let context = GradientContext(
          inputs: try inputs.map { (x) throws(TensorError) in
            try again.value(x, for: index, upstream: upstream)
          },
          outputs: try outputs.map { (y) throws(TensorError) in
            try again.value(y, for: index, upstream: upstream)
          },
          upstream: upstream, name: op.name)
        let flows: [Tensor?]
        do throws(TensorError) { flows = try op.gradients(context) } catch { throw error.at(path) }
        for (input, flow) in zip(inputs, flows) {
          guard let flow, needed.contains(input.node) else { continue }
          guard flow.shape == input.shape else {
            throw .shape(
              op: "gradient of \(op.name)", shapes: [flow.shape, input.shape],
              expected: "it has the input's shape", path: path)
          }
          gradient[Key(input)] = if let sum = gradient[Key(input)] { try sum + flow } else { flow }
        }
      }
    }
    var results: [Tensor] = []
    for target in targets {
      if let known = gradient[Key(target)] {
        results.append(known)
      } else {
        try results.append(constant([Float](repeating: 0, count: target.shape.elements), target.shape))
      }
    }
    return results
  }

  private struct Key: Hashable {
    let node: Int
    let output: Int
    init(_ tensor: Tensor) {
      node = tensor.node
      output = tensor.output
    }
  }
}

/// A value in a graph: a handle, not numbers.
public struct Tensor {
  /// The graph it belongs to.
  public let graph: Graph
  let node: Int
  let output: Int
  /// Its dimensions, outermost first.
  public let shape: [Int]

  /// The number of dimensions.
  public var rank: Int { shape.count }
  /// The element type.
  public var dtype: DType { graph.nodes[node].dtype }

  /// Whether it was recorded before `other`.
  package func recorded(before other: Tensor) -> Bool { (node, output) < (other.node, other.output) }
}
