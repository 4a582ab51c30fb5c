/// Makes the values that gradients read a second time, where that is cheaper than to keep them from the forward pass.
final class Recomputation {
  private let graph: Graph
  private var made: [Int: [Tensor]] = [:]
  /// Ops that are computed again whoever reads them.
  private let cheap: Set<Int>

  init(_ graph: Graph, cheap: Set<Int> = []) {
    self.graph = graph
    self.cheap = cheap
  }

  /// What the gradient of the op `consumer` should read for `tensor`, where it also reads `upstream`.
  func value(
    _ tensor: Tensor, for consumer: Int, upstream: [Tensor?]
  ) throws(TensorError) -> Tensor {
    let (node, reader) = (graph.nodes[tensor.node], graph.nodes[consumer])
    if let region = node.region, region == reader.region { return try copy(tensor, region) }
    if cheap.contains(Schedule.resolve(tensor).node) {
      // What was made for what `upstream` follows from is in another group's memory, if it's in any.
      if let known = made[tensor.node], case .op(let op, _) = reader.source, op is any RowOp,
        upstream.contains(where: { $0.map { follows($0.node, known[0].node) } ?? false }),
        let own = try normalised(tensor)
      {
        return own
      }
      return try cheapCopy(tensor)
    }
    // What is kept in 16 bits is widened when it is wanted: wide values that live from the forward pass to the backward
    // pass would be all that was saved.
    if case .op(let op as Cast, let inputs) = node.source, op.isWidening(inputs[0].dtype) {
      return try copy(tensor, node.region)
    }
    // What a function's gradient keeps is its input, and the function itself costs nothing within a fused group.
    if case .op(let op, _) = node.source, case .op(let other, _) = reader.source, other is any RowOp,
      tensor.node != consumer, let unary = op as? Unary, unary.function.gradientReadsInputOnly
    {
      return try copy(tensor, node.region)
    }
    return tensor
  }

  private func cheapCopy(_ tensor: Tensor) throws(TensorError) -> Tensor {
    guard cheap.contains(Schedule.resolve(tensor).node),
      case .op(let op, let inputs) = graph.nodes[tensor.node].source
    else { return tensor }
    if op is RMSNormalize, tensor.output == 1 { return tensor }
    if let known = made[tensor.node] { return known[tensor.output] }
    let operands = try inputs.map { (input) throws(TensorError) in try cheapCopy(input) }
    let normalised = try normalised(tensor)
    let copies = if let normalised { [normalised] } else { try graph.apply(op, operands) }
    made[tensor.node] = copies
    return copies[tensor.output]
  }

  /// Whether node `later` is computed from node `earlier`.
  private func follows(_ later: Int, _ earlier: Int) -> Bool {
    var seen: Set<Int> = []
    var stack = [later]
    while let index = stack.popLast() {
      if index == earlier { return true }
      guard index > earlier, seen.insert(index).inserted, case .op(_, let inputs) = graph.nodes[index].source
      else { continue }
      stack += inputs.map(\.node)
    }
    return false
  }

  /// What was normalised times its scale, if `tensor` is a norm's result: one product, which a fused group makes for itself
  /// sooner than it reads it from where another group wrote it.
  private func normalised(_ tensor: Tensor) throws(TensorError) -> Tensor? {
    let node = graph.nodes[tensor.node]
    guard case .op(let op, let inputs) = node.source, op is RMSNormalize, tensor.output == 0 else {
      return nil
    }
    return try cheapCopy(inputs[0])
      * Tensor(graph: graph, node: tensor.node, output: 1, shape: node.shapes[1])
  }

  private func copy(_ tensor: Tensor, _ region: Int?) throws(TensorError) -> Tensor {
    let node = graph.nodes[tensor.node]
    guard case .op(let op, let inputs) = node.source else { return tensor }
    if let known = made[tensor.node] { return known[tensor.output] }
    let operands = try inputs.map { (input) throws(TensorError) in
      region != nil && graph.nodes[input.node].region == region ? try copy(input, region) : input
    }
    let copies = try graph.apply(op, operands)
    made[tensor.node] = copies
    return copies[tensor.output]
  }
}

extension UnaryFunction {
  /// Whether the gradient is computed from the function's input, so that its output need not be kept.
  var gradientReadsInputOnly: Bool {
    switch self {
    case .sin, .cos, .silu, .abs, .square, .relu, .log, .negate: true
    default: false
    }
  }
}
