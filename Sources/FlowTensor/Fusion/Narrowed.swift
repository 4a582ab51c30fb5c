/// Units whose intermediate values are kept in a 16-bit type where their kernels can, as mixed-precision training does
/// (Micikevicius et al. 2018): products take and give such values, what follows from them stays so, and what follows only
/// from inputs and parameters stays float32. Parameters are float32; a product reads a copy.
struct Narrowed {
  private(set) var units: [Unit] = []
  private let narrowing: Narrowing
  /// Who reads each value.
  private var readers: [Value: [(unit: Int, input: Int)]] = [:]
  private var narrow: Set<Value> = []
  /// The 16-bit value that a widened one was made of.
  private var sources: [Value: (value: Value, type: DType)] = [:]
  /// 16-bit copies that products read.
  private var copies: [Value: Value] = [:]
  /// What the program computes; the rest is there from the start.
  private var computed: Set<Value> = []
  /// Copies of what is there from the start come first, side by side, so that a backend can make them all at once.
  private var first = 0
  private var next: Int

  /// - Parameters:
  ///   - given: units in order.
  ///   - kept: values that others read as they were recorded.
  ///   - firstFree: a node's number that no value has.
  init(_ given: [Unit], kept: Set<Value>, firstFree: Int, by narrowing: Narrowing) {
    self.narrowing = narrowing
    next = firstFree
    for (position, unit) in given.enumerated() {
      for (index, input) in unit.inputs.enumerated() {
        readers[input.value, default: []].append((position, index))
      }
      for output in unit.outputs { computed.insert(output.value) }
    }
    var widened: Set<Int> = []
    for (position, unit) in given.enumerated() {
      if let op = unit.op as? Cast, op.to == .float32, unit.inputs[0].dtype == narrowing.type {
        let value = unit.outputs[0].value
        sources[value] = (unit.inputs[0].value, unit.inputs[0].dtype)
        if !kept.contains(value), allRead(value, given) { widened.insert(position) }
      }
      for (index, output) in unit.outputs.enumerated() where isNarrow(unit, index, output, kept, given) {
        narrow.insert(output.value)
      }
    }
    for (position, unit) in given.enumerated() where !widened.contains(position) { take(unit) }
  }

  /// Whether every reader takes it narrow.
  private func allRead(_ value: Value, _ given: [Unit]) -> Bool {
    readers[value, default: []].allSatisfy { narrowing.reads(given[$0.unit].op, $0.input) }
  }

  private func isNarrow(
    _ unit: Unit, _ index: Int, _ output: (value: Value, shape: [Int], dtype: DType), _ kept: Set<Value>,
    _ given: [Unit]
  ) -> Bool {
    guard output.dtype == .float32, output.shape.elements >= narrowing.smallest, !kept.contains(output.value),
      sources[output.value] == nil, narrowing.writes(unit.op, index), allRead(output.value, given)
    else { return false }
    return unit.op.isProduct
      || unit.inputs.contains { narrow.contains($0.value) || sources[$0.value] != nil }
  }

  private mutating func take(_ unit: Unit) {
    var inputs = unit.inputs
    for (index, input) in unit.inputs.enumerated() where input.dtype == .float32 {
      if narrow.contains(input.value) {
        inputs[index].dtype = narrowing.type
      } else if let source = sources[input.value], narrowing.reads(unit.op, index) {
        (inputs[index].value, inputs[index].dtype) = source
      } else if narrowing.wants(unit.op, index) {
        inputs[index].value = copy(input.value, input.shape, unit.path)
        inputs[index].dtype = narrowing.type
      }
    }
    let outputs = unit.outputs.map {
      ($0.value, $0.shape, narrow.contains($0.value) ? narrowing.type : $0.dtype)
    }
    units.append(Unit(op: unit.op, inputs: inputs, outputs: outputs, path: unit.path))
  }

  private mutating func copy(_ value: Value, _ shape: [Int], _ path: String) -> Value {
    if let known = copies[value] { return known }
    let new = Value(node: next, output: 0)
    next += 1
    copies[value] = new
    let unit = Unit(
      op: Cast(to: narrowing.type), inputs: [(value, shape, .float32)],
      outputs: [(new, shape, narrowing.type)], path: path)
    if computed.contains(value) {
      units.append(unit)
    } else {
      units.insert(unit, at: first)
      first += 1
    }
    return new
  }
}
