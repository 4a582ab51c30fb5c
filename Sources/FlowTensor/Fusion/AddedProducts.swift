extension Graph {
  /// This with products that add: the sum of a product (or a multiple of one) that nothing else reads and a value of its
  /// size is one op. What no longer is read stays, and isn't reached from `roots`.
  func addingInProducts(_ needed: [Int], kept: Set<Value>) -> Graph {
    var uses: [Value: Int] = [:]
    for index in needed {
      guard case .op(let op, let inputs) = nodes[index].source, !op.isView else { continue }
      for input in inputs { uses[Schedule.resolve(input), default: 0] += 1 }
    }
    /// What computes `tensor`, if only one op reads it.
    func only(_ tensor: Tensor) -> (op: any Op, inputs: [Tensor])? {
      let value = Schedule.resolve(tensor)
      guard uses[value] == 1, !kept.contains(value), nodes[value.node].dtype == .float32,
        case .op(let op, let inputs) = nodes[value.node].source
      else { return nil }
      return (op, inputs)
    }
    func product(_ tensor: Tensor) -> (op: MatMulAdd, inputs: [Tensor])? {
      var (found, scale) = (only(tensor), Float(1))
      if let (op, inputs) = found, let affine = op as? Affine, affine.offset == 0 {
        (found, scale) = (only(inputs[0]), affine.scale)
      }
      guard let (op, inputs) = found, let op = op as? MatMul, inputs.allSatisfy({ $0.shape.elements > 0 })
      else { return nil }
      return (MatMulAdd(op, scale: scale), inputs)
    }
    var changed: [Int: Source] = [:]
    for index in needed {
      guard case .op(let op, let inputs) = nodes[index].source, (op as? Binary)?.function == .add,
        inputs.allSatisfy({ $0.shape == nodes[index].shapes[0] })
      else { continue }
      // The later of two is added to the earlier.
      for (one, other) in [(inputs[1], inputs[0]), (inputs[0], inputs[1])] {
        guard let (op, operands) = product(one) else { continue }
        changed[index] = .op(op, operands + [other])
        break
      }
    }
    return replacing(changed)
  }
}
