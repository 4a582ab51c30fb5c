extension Graph {
  /// This with products that add and scale: the sum of a product (or a multiple of one) that nothing else reads and a value
  /// of its size is one op, and so is the product of a multiple that only products read. What no longer is read stays, and
  /// isn't reached from `roots`.
  func addingInProducts(_ needed: [Int], kept: Set<Value>) -> Graph {
    var sums = ProductSums(self, needed, kept)
    sums.run()
    return replacing(sums.changed)
  }
}

/// Finds what products take in.
private struct ProductSums {
  private let graph: Graph
  private let needed: [Int]
  private let kept: Set<Value>
  /// The ops that read each value, once for each time that they do.
  private var readers: [Value: [Int]] = [:]
  private(set) var changed: [Int: Graph.Source] = [:]

  init(_ graph: Graph, _ needed: [Int], _ kept: Set<Value>) {
    (self.graph, self.needed, self.kept) = (graph, needed, kept)
    for index in needed {
      guard case .op(let op, let inputs) = graph.nodes[index].source, !op.isView else { continue }
      for input in inputs { readers[Schedule.resolve(input), default: []].append(index) }
    }
  }

  mutating func run() {
    var taken: Set<Int> = []
    for index in needed where changed[index] == nil {
      guard let inputs = summands(index) else { continue }
      // The later of two is added to the earlier; two products that are added to something else are each added to that.
      for (one, other) in [(inputs[1], inputs[0]), (inputs[0], inputs[1])] {
        if let (first, second) = products(one, before: other) {
          let inner = Schedule.resolve(one).node
          changed[inner] = .op(first.op, first.inputs + [other])
          changed[index] = .op(second.op, second.inputs + [one])
          taken.formUnion([first.node, second.node])
          break
        }
      }
      if changed[index] != nil { continue }
      for (one, other) in [(inputs[1], inputs[0]), (inputs[0], inputs[1])] {
        guard let product = product(one) else { continue }
        changed[index] = .op(product.op, product.inputs + [other])
        taken.insert(product.node)
        break
      }
    }
    for index in needed where changed[index] == nil && !taken.contains(index) {
      guard case .op(let op, let inputs) = graph.nodes[index].source, let op = op as? MatMul else { continue }
      let (operands, scale) = unscaled(inputs)
      guard zip(operands, inputs).contains(where: { $0.node != $1.node }) else { continue }
      let product: any Op = scale == 1 ? op : MatMulAdd(op, scale: scale, adds: false)
      changed[index] = .op(product, operands)
    }
  }

  /// The two of a sum of one size.
  private func summands(_ index: Int) -> [Tensor]? {
    guard case .op(let op, let inputs) = graph.nodes[index].source, (op as? Binary)?.function == .add,
      inputs.allSatisfy({ $0.shape == graph.nodes[index].shapes[0] })
    else { return nil }
    return inputs
  }

  /// What computes `tensor`, if only one op reads it.
  private func only(_ tensor: Tensor) -> (op: any Op, inputs: [Tensor], node: Int)? {
    let value = Schedule.resolve(tensor)
    guard readers[value]?.count == 1, !kept.contains(value), graph.nodes[value.node].dtype == .float32,
      case .op(let op, let inputs) = graph.nodes[value.node].source
    else { return nil }
    return (op, inputs, value.node)
  }

  private typealias Product = (op: MatMulAdd, inputs: [Tensor], node: Int)

  private func product(_ tensor: Tensor) -> Product? {
    var (found, scale) = (only(tensor), Float(1))
    if let (op, inputs, _) = found, let affine = op as? Affine, affine.offset == 0 {
      (found, scale) = (only(inputs[0]), affine.scale)
    }
    guard let (op, inputs, node) = found, let op = op as? MatMul, inputs.allSatisfy({ $0.shape.elements > 0 })
    else { return nil }
    let (operands, factor) = unscaled(inputs)
    return (MatMulAdd(op, scale: scale * factor), operands, node)
  }

  /// The two products whose sum `tensor` is, of which nothing else is made, if `other` is known when they are added.
  private func products(_ tensor: Tensor, before other: Tensor) -> (first: Product, second: Product)? {
    guard let sum = only(tensor), let inputs = summands(sum.node), other.node < sum.node,
      product(other) == nil, let first = product(inputs[0]), let second = product(inputs[1])
    else { return nil }
    return (first, second)
  }

  /// A product's operands without factors that products alone see, and those factors' product.
  private func unscaled(_ inputs: [Tensor]) -> (inputs: [Tensor], scale: Float) {
    var scale: Float = 1
    let operands = inputs.map { input -> Tensor in
      let value = Schedule.resolve(input)
      guard case .op(let op, let from) = graph.nodes[value.node].source, let affine = op as? Affine,
        affine.offset == 0, !kept.contains(value), readers[value, default: []].allSatisfy(isProduct)
      else { return input }
      scale *= affine.scale
      return Tensor(graph: input.graph, node: from[0].node, output: from[0].output, shape: input.shape)
    }
    return (operands, scale)
  }

  private func isProduct(_ index: Int) -> Bool {
    guard case .op(let op, let inputs) = graph.nodes[index].source else { return false }
    return op is MatMul && inputs.allSatisfy { $0.shape.elements > 0 }
  }
}
