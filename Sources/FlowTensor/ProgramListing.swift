extension Program {
  /// What the program does, for people: its size, then a line per step with its number, op, shapes, where its outputs lie
  /// in the memory of intermediate values (`@`, bytes), its FLOP and its module; a fused group's ops are below it. At the
  /// end, what is alive where its memory is fullest.
  public var listing: String {
    var lines = [
      "\(steps.count) steps, \(Program.count(flops)) FLOP, \(arenaCount * 4 / 1024) KiB of intermediate values,"
        + " \(parameterBytes / 1024) KiB of parameters and state"
    ]
    for (index, step) in steps.enumerated() {
      let from = step.inputs.map { Program.form($0.shape, $0.dtype) }.joined(separator: " ")
      let to = step.outputs.map { "\(Program.form($0.shape, $0.dtype))@\($0.slot.offset * 4)" }.joined(
        separator: " ")
      let work = step.op.flops(step.inputs.map(\.shape), step.outputs.map(\.shape))
      let place = step.path.isEmpty ? "" : "  \(step.path)"
      lines.append("\(index)  \(step.op.name)  \(from) -> \(to)  \(Program.count(work)) FLOP\(place)")
      guard let group = step.op as? Fused else { continue }
      for (number, member) in group.members.enumerated() {
        let operands = zip(member.inputs, member.shapes).map { origin, shape in
          switch origin {
          case .input(let input): "in\(input) \(shape)"
          case .member(let other, _): "#\(other)"
          }
        }
        let results = member.outputs.compactMap { $0.map { " -> out\($0)" } }.joined()
        lines.append("      #\(number) \(member.op.name) \(operands.joined(separator: ", "))\(results)")
      }
    }
    return (lines + [peak]).joined(separator: "\n")
  }

  /// A shape, and the type where it isn't float32.
  static func form(_ shape: [Int], _ type: DType) -> String {
    type == .float32 ? "\(shape)" : "\(shape) \(type.rawValue)"
  }

  /// Bytes of the parameters that the program reads or writes.
  private var parameterBytes: Int {
    graph.nodes.reduce(0) { sum, node in
      if case .parameter = node.source { sum + node.shapes[0].elements * node.dtype.size } else { sum }
    }
  }

  /// A number with a metric prefix.
  private static func count(_ value: Int) -> String {
    var (value, prefixes) = (Double(value), ["", "k", "M", "G", "T"][...])
    while value >= 1000, prefixes.count > 1 {
      value /= 1000
      prefixes.removeFirst()
    }
    let rounded = (value * 10).rounded() / 10
    let text = rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    return "\(text) \(prefixes.first ?? "")"
  }
}
