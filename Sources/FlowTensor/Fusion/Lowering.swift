/// Lowers the members of a group, in order, to instructions.
package struct RowBuilder {
  private(set) var program: RowProgram
  /// Outside values that are read.
  private(set) var inputs: [Value] = []
  private var register: [Value: Int] = [:]
  private var loads: [RowProgram.Place: Int] = [:]
  private let outputs: [Value]

  /// A group over `rows` of `width` of which `outputs` are read outside.
  init(rows: Int, width: Int, outputs: [Value]) {
    program = RowProgram(rows: rows, width: width)
    self.outputs = outputs
  }

  private mutating func add(_ extent: RowProgram.Extent, _ place: RowProgram.Place) -> Int {
    program.registers.append(.init(extent: extent, place: place))
    return program.registers.count - 1
  }

  /// The register that holds `value`; one from outside is read by `pattern`.
  mutating func operand(_ value: Value, _ extent: RowProgram.Extent, _ pattern: Pattern) -> Int {
    if let known = register[value] { return known }
    let index = inputs.firstIndex(of: value) ?? inputs.count
    if index == inputs.count { inputs.append(value) }
    let place = RowProgram.Place.input(index, pattern.isDense ? .dense : .strided(pattern))
    if let known = loads[place], program.registers[known].extent == extent { return known }
    let new = add(extent, place)
    loads[place] = new
    return new
  }

  /// Computes `code` of one or two operands: into an output's memory when `value` is one, else into scratch memory. What is
  /// computed already is not computed again.
  @discardableResult
  package mutating func emit(
    _ code: RowProgram.Code, _ extent: RowProgram.Extent, _ operands: Int..., as value: Value? = nil
  ) -> Int {
    let output = value.flatMap { outputs.firstIndex(of: $0) }
    let (a, b) = (operands[0], operands[operands.count - 1])
    if output == nil,
      let known = program.instructions.first(where: { ($0.code, $0.a, $0.b) == (code, a, b) }),
      self.extent(known.to) == extent
    {
      if let value { register[value] = known.to }
      return known.to
    }
    let to = add(extent, output.map { .output($0) } ?? .scratch)
    if let value { register[value] = to }
    program.instructions.append(.init(code: code, to: to, a: a, b: b))
    return to
  }

  /// `value` is what `operand` holds, under another shape.
  package mutating func rename(_ operand: Int, as value: Value) {
    if outputs.contains(value) {
      emit(.affine(scale: 1, offset: 0), extent(operand), operand, as: value)
    } else {
      register[value] = operand
    }
  }

  /// A register's extent.
  package func extent(_ operand: Int) -> RowProgram.Extent { program.registers[operand].extent }

  /// Joins pairs of instructions that have a common one.
  private mutating func join() {
    var readers: [Int: Int] = [:]
    for job in program.instructions {
      for operand in Set([job.a, job.b]) { readers[operand, default: 0] += 1 }
    }
    var made: [Int: RowProgram.Instruction] = [:]
    var result: [RowProgram.Instruction] = []
    for job in program.instructions {
      let first = made[job.a].flatMap { first in
        readers[job.a] == 1 && program.registers[job.a].place == .scratch ? first : nil
      }
      var joint: RowProgram.Instruction?
      if let first {
        let (a, b) = (extent(first.a), extent(first.b))
        switch (first.code, job.code) {
        case (.binary(.multiply), .rowSum) where a == .full && b == .full:
          joint = .init(code: .rowProduct, to: job.to, a: first.a, b: first.b)
        case (.unary(.square), .rowSum): joint = .init(code: .rowProduct, to: job.to, a: first.a, b: first.a)
        case (.binary(.subtract), .unary(.exp)) where a == .full && b == .small:
          joint = .init(code: .exponentialBelow, to: job.to, a: first.a, b: first.b)
        default: break
        }
      }
      if joint != nil, let at = result.lastIndex(where: { $0.to == job.a }) { result.remove(at: at) }
      let taken = joint ?? job
      made[taken.to] = taken
      result.append(taken)
    }
    program.instructions = result
  }

  /// The program, with scratch blocks assigned.
  consuming func finish() -> RowProgram {
    join()
    var last = [Int](repeating: -1, count: program.registers.count)
    for (position, job) in program.instructions.enumerated() {
      for operand in [job.to, job.a, job.b] { last[operand] = position }
    }
    // What is gathered from memory is there before the first instruction.
    for index in program.registers.indices {
      if case .input(_, .strided) = program.registers[index].place {
        program.registers[index].slot = program.slots
        program.slots += 1
      }
    }
    // A large result is made in scratch memory and copied past the caches at the end of a block.
    if program.rows * program.width >= RowProgram.streamed {
      for index in program.registers.indices {
        guard case .output = program.registers[index].place, program.registers[index].extent == .full else {
          continue
        }
        program.registers[index].slot = program.slots
        program.slots += 1
      }
    }
    var free: [Int] = []
    for (position, job) in program.instructions.enumerated() {
      if program.registers[job.to].place == .scratch {
        let slot = free.popLast() ?? program.slots
        program.slots = max(program.slots, slot + 1)
        program.registers[job.to].slot = slot
      }
      for operand in Set([job.to, job.a, job.b]).sorted() where last[operand] == position {
        switch program.registers[operand].place {
        case .scratch, .input(_, .strided): free.append(program.registers[operand].slot)
        case .input, .output: break
        }
      }
    }
    return program
  }

  /// The inputs whose memory output `index` may take: read densely, and not after its first element is written.
  func reusable(_ index: Int) -> [Int] {
    guard let register = program.registers.firstIndex(where: { $0.place == .output(index) }),
      let written = program.instructions.firstIndex(where: { $0.to == register })
    else { return [] }
    let extent = program.registers[register].extent
    guard extent == .full || extent == .small else { return [] }
    return inputs.indices.filter { input in
      program.registers.indices.allSatisfy { other in
        guard case .input(input, let access) = program.registers[other].place else { return true }
        guard access == .dense, program.registers[other].extent == extent else { return false }
        return !program.instructions[(written + 1)...].contains { $0.a == other || $0.b == other }
      }
    }
  }
}
