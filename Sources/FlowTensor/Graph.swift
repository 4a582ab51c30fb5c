/// Element types. Masks are float32 zeros and ones.
public enum DType: String, Sendable, Hashable {
  case float32, int32
}

/// An operation: its name, shape rule, gradient, and a naive reference in double precision. An op lives in one file;
/// a backend finds its kernel by the op's type.
public protocol Op: Sendable {
  /// A short name for dumps, such as `conv1d`.
  var name: String { get }
  /// The shapes of the outputs. A mismatch is a programmer's error: a precondition failure that shows the shapes.
  func outputShapes(_ inputs: [[Int]]) -> [[Int]]
  /// The gradients with respect to each input (`nil`: none flows), given those with respect to each output (`nil`:
  /// nothing depends on it), written in ops.
  func gradients(_ context: GradientContext) -> [Tensor?]
  /// The outputs computed naively, row-major, in double precision; int32 inputs come as doubles.
  func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]]
  /// Multiply-adds counted as two, for dumps and rates.
  func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int
  /// The input whose buffer output i may overwrite, as every element is read before its place is written.
  func inPlaceInput(ofOutput index: Int) -> Int?
  /// Whether the output is the input's bytes under another shape.
  var isView: Bool { get }
  /// Floats of scratch memory that the kernel wants.
  func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int
}

extension Op {
  /// One for each element of the outputs.
  public func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { outputs.reduce(0) { $0 + $1.elements } }
  /// None.
  public func inPlaceInput(ofOutput index: Int) -> Int? { nil }
  /// No.
  public var isView: Bool { false }
  /// None.
  public func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

extension [Int] {
  /// The number of elements of a tensor of this shape.
  var elements: Int { reduce(1, *) }
}

/// What an op's gradient rule sees.
public struct GradientContext {
  /// The op's inputs.
  public let inputs: [Tensor]
  /// The op's outputs.
  public let outputs: [Tensor]
  /// The gradient of each output, if anything depends on it.
  public let upstream: [Tensor?]
  /// The first output's gradient.
  public var g: Tensor {
    guard let first = upstream[0] else { preconditionFailure("no gradient reaches the first output") }
    return first
  }
}

/// Records a step: ops over static shapes. Not thread-safe; a finished graph becomes a `Program`.
public final class Graph {
  /// Where a value comes from.
  public enum Source {
    case input(String)
    case parameter(String)
    case constant([Float])
    case op(any Op, [Tensor])
  }

  struct Node {
    let source: Source
    let shapes: [[Int]]
    let dtype: DType
  }

  private(set) var nodes: [Node] = []
  private(set) var assignments: [(parameter: Tensor, value: Tensor)] = []
  private var names: [String: Tensor] = [:]

  /// An empty graph.
  public init() {}

  private func append(_ source: Source, _ shapes: [[Int]], _ dtype: DType = .float32) -> Int {
    nodes.append(Node(source: source, shapes: shapes, dtype: dtype))
    return nodes.count - 1
  }

  /// A value given at each run.
  public func input(_ name: String, _ shape: [Int], _ dtype: DType = .float32) -> Tensor {
    if let known = names["input " + name] {
      precondition(known.shape == shape, "input '\(name)' was \(known.shape), now \(shape)")
      return known
    }
    let tensor = Tensor(graph: self, node: append(.input(name), [shape], dtype), output: 0, shape: shape)
    names["input " + name] = tensor
    return tensor
  }

  /// A buffer that persists between runs, by name in a `ParameterStore`.
  public func parameter(_ name: String, _ shape: [Int]) -> Tensor {
    if let known = names["parameter " + name] {
      precondition(known.shape == shape, "parameter '\(name)' was \(known.shape), now \(shape)")
      return known
    }
    let tensor = Tensor(graph: self, node: append(.parameter(name), [shape]), output: 0, shape: shape)
    names["parameter " + name] = tensor
    return tensor
  }

  /// A constant of that shape.
  public func constant(_ values: [Float], _ shape: [Int]) -> Tensor {
    precondition(values.count == shape.elements, "\(values.count) values for shape \(shape)")
    return Tensor(graph: self, node: append(.constant(values), [shape]), output: 0, shape: shape)
  }

  /// A scalar constant, shape `[]`.
  public func constant(_ value: Float) -> Tensor { constant([value], []) }

  /// Applies `op`; a tensor per output.
  public func apply(_ op: any Op, _ inputs: [Tensor]) -> [Tensor] {
    for input in inputs { precondition(input.graph === self, "\(op.name): a tensor of another graph") }
    let shapes = op.outputShapes(inputs.map(\.shape))
    let node = append(.op(op, inputs), shapes)
    return shapes.indices.map { Tensor(graph: self, node: node, output: $0, shape: shapes[$0]) }
  }

  /// At the end of a run, `parameter` holds `value`. All other uses of it in the run see its old content.
  public func assign(_ parameter: Tensor, _ value: Tensor) {
    guard case .parameter = nodes[parameter.node].source else {
      preconditionFailure("only a parameter can be assigned to")
    }
    precondition(parameter.shape == value.shape, "assign \(value.shape) to \(parameter.shape)")
    assignments.append((parameter, value))
  }

  /// The gradients of the scalar `loss` with respect to `targets`, as tensors of this graph (zeros where `loss` doesn't
  /// depend on a target). Reverse-mode by graph transformation, so it can be applied to its own results.
  public func gradients(of loss: Tensor, withRespectTo targets: [Tensor]) -> [Tensor] {
    precondition(loss.shape.elements == 1, "a gradient is of a scalar, not of shape \(loss.shape)")
    var needed = Set(targets.map(\.node))
    for index in nodes.indices where index <= loss.node {
      if case .op(_, let inputs) = nodes[index].source, inputs.contains(where: { needed.contains($0.node) }) {
        needed.insert(index)
      }
    }
    var gradient: [Key: Tensor] = [
      Key(loss): constant([Float](repeating: 1, count: loss.shape.elements), loss.shape)
    ]
    for index in stride(from: loss.node, through: 0, by: -1) where needed.contains(index) {
      guard case .op(let op, let inputs) = nodes[index].source else { continue }
      let outputs = nodes[index].shapes.indices.map {
        Tensor(graph: self, node: index, output: $0, shape: nodes[index].shapes[$0])
      }
      let upstream = outputs.map { gradient[Key($0)] }
      if upstream.allSatisfy({ $0 == nil }) { continue }
      let flows = op.gradients(GradientContext(inputs: inputs, outputs: outputs, upstream: upstream))
      for (input, flow) in zip(inputs, flows) {
        guard let flow, needed.contains(input.node) else { continue }
        precondition(flow.shape == input.shape, "\(op.name): gradient \(flow.shape) for input \(input.shape)")
        if let sum = gradient[Key(input)] {
          gradient[Key(input)] = sum + flow
        } else {
          gradient[Key(input)] = flow
        }
      }
    }
    return targets.map {
      gradient[Key($0)] ?? constant([Float](repeating: 0, count: $0.shape.elements), $0.shape)
    }
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
}

/// Numbers in host memory, row-major.
public struct HostTensor: Sendable, Hashable {
  /// The elements.
  public enum Values: Sendable, Hashable {
    case float32([Float])
    case int32([Int32])
  }
  /// Its dimensions, outermost first.
  public let shape: [Int]
  /// Its elements.
  public let values: Values

  /// Floats of that shape.
  public init(_ values: [Float], _ shape: [Int]) {
    precondition(values.count == shape.elements, "\(values.count) values for shape \(shape)")
    self.shape = shape
    self.values = .float32(values)
  }

  /// Integers of that shape.
  public init(_ values: [Int32], _ shape: [Int]) {
    precondition(values.count == shape.elements, "\(values.count) values for shape \(shape)")
    self.shape = shape
    self.values = .int32(values)
  }

  /// The elements as floats.
  public var floats: [Float] {
    switch values {
    case .float32(let values): values
    case .int32(let values): values.map(Float.init)
    }
  }
}
