import CKernels
import FlowTensor

extension CPUBackend {
  /// The kernel of a fused group: its program, with addresses, for the register machine in C.
  func fused(
    _ op: Fused, _ t: Int32, _ x: [UnsafeMutablePointer<Float>], _ y: [UnsafeMutablePointer<Float>],
    _ work: UnsafeMutablePointer<Float>
  ) -> (() -> Void)? {
    let program = op.program
    guard program.registers.count <= Int(FLOW_FUSED_REGISTERS) else { return nil }
    let instructions = program.instructions.map { job in
      let (code, scale, offset) = CPUBackend.encode(job.code)
      return flow_instruction(
        op: code, to: Int32(job.to), a: Int32(job.a), b: Int32(job.b), scale: scale, offset: offset)
    }
    var partials = work
    var registers: [flow_register] = []
    for register in program.registers {
      var entry = flow_register()
      entry.slot = Int32(register.slot)
      switch register.place {
      case .scratch: entry.kind = kind(register, FLOW_REGISTER_FULL, FLOW_REGISTER_SMALL)
      case .input(let index, .dense):
        entry.kind = kind(register, FLOW_REGISTER_IN, FLOW_REGISTER_IN_SMALL)
        entry.memory = x[index]
      case .input(let index, .strided(let pattern)):
        guard pattern.shape.count <= 6 else { return nil }
        entry.kind = kind(register, FLOW_REGISTER_STRIDED, FLOW_REGISTER_STRIDED_SMALL)
        entry.memory = x[index] + pattern.offset
        entry.rank = Int32(pattern.shape.count)
        copy(pattern.shape, to: &entry.shape)
        copy(pattern.strides, to: &entry.stride)
      case .output(let index):
        entry.kind = kind(register, FLOW_REGISTER_OUT, FLOW_REGISTER_OUT_SMALL)
        entry.memory = y[index]
        entry.partial = partials
        if register.extent == .columns { partials += RowProgram.mostRanges * program.width }
        if register.extent == .total { partials += RowProgram.mostRanges }
      }
      registers.append(entry)
    }
    let plan = FusedPlan(instructions, registers, program)
    return { flow_fused(t, &plan.plan) }
  }

  private func copy(_ values: [Int], to tuple: inout (Int, Int, Int, Int, Int, Int)) {
    withUnsafeMutableBytes(of: &tuple) { bytes in values.withUnsafeBytes { bytes.copyMemory(from: $0) } }
  }

  private func kind(
    _ register: RowProgram.Register, _ full: Int, _ small: Int
  ) -> Int32 {
    switch register.extent {
    case .full: Int32(full)
    case .small: Int32(small)
    case .columns: Int32(FLOW_REGISTER_COLUMNS)
    case .total: Int32(FLOW_REGISTER_TOTAL)
    }
  }

  private static func encode(_ code: RowProgram.Code) -> (Int32, Float, Float) {
    switch code {
    case .unary(let function): (function.rawValue, 0, 0)
    case .binary(let function): (Int32(FLOW_BINARY) + function.rawValue, 0, 0)
    case .affine(let scale, let offset): (Int32(FLOW_AFFINE), scale, offset)
    case .expand: (Int32(FLOW_EXPAND), 0, 0)
    case .rowSum: (Int32(FLOW_ROW_SUM), 0, 0)
    case .rowMaximum: (Int32(FLOW_ROW_MAX), 0, 0)
    case .columnSum: (Int32(FLOW_COLUMN_SUM), 0, 0)
    case .totalSum: (Int32(FLOW_TOTAL_SUM), 0, 0)
    case .rowProduct: (Int32(FLOW_ROW_PRODUCT), 0, 0)
    case .exponentialBelow: (Int32(FLOW_EXP_BELOW), 0, 0)
    case .turn: (Int32(FLOW_TURN), 0, 0)
    }
  }
}

/// A plan and the memory it points into.
private final class FusedPlan {
  var plan: flow_fused_plan
  private let instructions: UnsafeMutableBufferPointer<flow_instruction>
  private let registers: UnsafeMutableBufferPointer<flow_register>

  init(_ instructions: [flow_instruction], _ registers: [flow_register], _ program: RowProgram) {
    self.instructions = .allocate(capacity: instructions.count)
    self.registers = .allocate(capacity: registers.count)
    _ = self.instructions.initialize(from: instructions)
    _ = self.registers.initialize(from: registers)
    plan = flow_fused_plan(
      rows: program.rows, width: program.width, block: program.block, slots: Int32(program.slots),
      instructions: Int32(instructions.count), registers: Int32(registers.count),
      instruction: self.instructions.baseAddress, reg: self.registers.baseAddress)
  }

  deinit {
    instructions.deallocate()
    registers.deallocate()
  }
}
