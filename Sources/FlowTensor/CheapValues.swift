/// Values that gradients read but need not be kept for them: a few elementwise ops make them again of values that are kept
/// anyway. A product's input is the usual case: silu(gate) · up, or a normalised value times its weight; so are queries and
/// keys that were normalised and rotated.
struct CheapValues {
  /// The ops to compute again.
  private(set) var nodes: Set<Int> = []
  private let graph: Graph
  private let kept: Set<Value>
  /// Most ops to be done for one value.
  private static let most = 3
  /// Elements from which a value is worth it.
  private static let smallest = 1 << 16

  /// - Parameters:
  ///   - results: the gradients, recorded with all values kept.
  ///   - forward: the number of nodes before the gradients'.
  init(_ graph: Graph, readBy results: [Tensor], before forward: Int) {
    self.graph = graph
    var kept: Set<Value> = []
    var seen = [Bool](repeating: false, count: graph.nodes.count)
    var stack = results.map(\.node)
    while let index = stack.popLast() {
      guard index >= forward, !seen[index], case .op(_, let inputs) = graph.nodes[index].source else {
        continue
      }
      seen[index] = true
      for input in inputs {
        if input.node < forward { kept.insert(Schedule.resolve(input)) }
        stack.append(input.node)
      }
    }
    self.kept = kept
    for value in kept.sorted(by: { $0.node < $1.node }) where isLarge(value) {
      if let ops = recipe(value, most: CheapValues.most, isRoot: true) { nodes.formUnion(ops) }
    }
  }

  private func isLarge(_ value: Value) -> Bool {
    graph.nodes[value.node].shapes[value.output].elements >= CheapValues.smallest
  }

  /// The ops that make `value` of kept values, at most `most` that cost anything.
  private func recipe(_ value: Value, most: Int, isRoot: Bool) -> [Int]? {
    let node = graph.nodes[value.node]
    guard case .op(let op, let inputs) = node.source else { return [] }
    if !isRoot {
      if nodes.contains(value.node) { return [] }
      if kept.contains(value) || !isLarge(value) { return [] }
    }
    guard most > 0, node.region == nil, CheapValues.isCheap(op, output: value.output) else { return nil }
    // A copy of what is kept would be no gain; of what is made again, attention needs none (`Turned`).
    if op is StridedCopy, kept.contains(Schedule.resolve(inputs[0])) { return nil }
    var result = op is StridedCopy ? [] : [value.node]
    for input in inputs {
      guard let ops = recipe(Schedule.resolve(input), most: most - result.count, isRoot: false) else {
        return nil
      }
      result += ops
    }
    guard result.count <= most else { return nil }
    return op is StridedCopy ? [value.node] + result : result
  }

  /// Whether an output is a function of one element of each large input, or of the other element of its pair.
  private static func isCheap(_ op: any Op, output: Int) -> Bool {
    switch op {
    case is Unary, is Affine, is Binary, is Rotate: true
    // By its scale, which is kept.
    case is RMSNormalize: output == 0
    case let op as StridedCopy: op.kind == .permute([0, 2, 1, 3])
    default: false
    }
  }
}
