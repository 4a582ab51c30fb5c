/// Units in which attention reads and writes memory of [B, N, H, D] where that is what comes before or after it: the copies
/// between that and [B, H, N, D] are left out. Shapes stay as recorded; the op says which of its values lie so.
struct Turned {
  private(set) var units: [Unit] = []
  private var readers: [Value: [Int]] = [:]
  private var writer: [Value: Int] = [:]

  /// - Parameter kept: values that others read as they were recorded.
  init(_ given: [Unit], kept: Set<Value>) {
    units = given
    for (position, unit) in given.enumerated() {
      for input in unit.inputs { readers[input.value, default: []].append(position) }
      for output in unit.outputs { writer[output.value] = position }
    }
    var gone: Set<Int> = []
    for (position, unit) in given.enumerated() {
      guard let copy = unit.op as? StridedCopy, case .permute([0, 2, 1, 3]) = copy.kind else { continue }
      let (from, to) = (unit.inputs[0].value, unit.outputs[0].value)
      if !kept.contains(to), canRead(to) {
        for reader in readers[to, default: []] { turnInputs(of: reader, from: to, to: from) }
        readers[from, default: []] += readers[to, default: []]
        gone.insert(position)
      } else if !kept.contains(from), let source = writer[from], canWrite(from, source, except: position) {
        turnOutput(of: source, from: from, to: to)
        for reader in readers[from, default: []] where reader != position {
          turnInputs(of: reader, from: from, to: to)
        }
        readers[to, default: []] += readers[from, default: []].filter { $0 != position }
        gone.insert(position)
      }
    }
    units = units.enumerated().filter { !gone.contains($0.offset) }.map(\.element)
  }

  /// Whether all that read `value` are attention, and none reads it as a mask or a logarithm.
  private func canRead(_ value: Value) -> Bool {
    let all = readers[value, default: []]
    return !all.isEmpty
      && all.allSatisfy { reader in
        let places = units[reader].inputs.indices.filter { units[reader].inputs[$0].value == value }
        switch units[reader].op {
        case is Attention: return places.allSatisfy { $0 < 3 }
        case is AttentionBack: return places.allSatisfy { [0, 1, 2, 4, 6].contains($0) }
        default: return false
        }
      }
  }

  /// Whether `value` is attention's, and only attention and the copy at `except` read it.
  private func canWrite(_ value: Value, _ source: Int, except: Int) -> Bool {
    let place = units[source].outputs.firstIndex { $0.value == value } ?? 0
    guard units[source].op is Attention ? place == 0 : units[source].op is AttentionBack else { return false }
    return readers[value, default: []].allSatisfy { reader in
      if reader == except { return true }
      guard units[reader].op is AttentionBack else { return false }
      return units[reader].inputs.indices.allSatisfy { units[reader].inputs[$0].value != value || $0 == 4 }
    }
  }

  private mutating func turnInputs(of unit: Int, from: Value, to: Value) {
    let old = units[unit]
    var inputs = old.inputs
    var turned: Set<Int> = []
    for index in inputs.indices where inputs[index].value == from {
      inputs[index].value = to
      turned.insert(index)
    }
    units[unit] = Unit(
      op: old.op.turned(inputs: turned, outputs: []), inputs: inputs, outputs: old.outputs, path: old.path)
  }

  private mutating func turnOutput(of unit: Int, from: Value, to: Value) {
    let old = units[unit]
    var outputs = old.outputs
    guard let place = outputs.firstIndex(where: { $0.value == from }) else { return }
    outputs[place].value = to
    units[unit] = Unit(
      op: old.op.turned(inputs: [], outputs: [place]), inputs: old.inputs, outputs: outputs, path: old.path)
  }
}

extension Op {
  /// Attention that has these values as [B, N, H, D] too.
  fileprivate func turned(inputs: Set<Int>, outputs: Set<Int>) -> any Op {
    switch self {
    case var op as Attention:
      op.turned.inputs.formUnion(inputs)
      op.turned.outputs.formUnion(outputs)
      return op
    case var op as AttentionBack:
      op.turned.inputs.formUnion(inputs)
      op.turned.outputs.formUnion(outputs)
      return op
    default: return self
    }
  }
}
