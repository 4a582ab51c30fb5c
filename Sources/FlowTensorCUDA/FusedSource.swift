import FlowTensor

/// The text of a kernel for a fused group.
///
/// Two forms. Flat: a thread takes a few neighbouring elements. By rows, where sums along or over rows are wanted: a row is
/// spread over lanes of a warp or over a block, so that its values stay in registers between a sum and what is made of it.
/// Sums over all rows are left as partial sums per block, in an order that depends on sizes only.
struct FusedSource {
  let program: RowProgram
  let inputs: [Operand]
  private let outputs: [Operand]
  /// Elements that a thread loads at once, and holds of a row.
  let vector: Int
  let held: Int
  /// Threads that share a row: a power of two up to 32, or all of a block.
  let lanes: Int
  /// Threads of a block.
  let threads: Int
  let byRows: Bool
  private let turns: Bool
  /// Sums over all rows, as registers.
  let sums: [Int]

  /// Blocks on each multiprocessor of those that keep a part of a sum each, as many as registers hold of most kernels.
  private var together: Int { max(1, 768 / threads) }
  /// Multiprocessors of a Hopper: sums mustn't depend on which device it is.
  private static let multiprocessors = 132

  init(_ program: RowProgram, _ inputs: [Operand], _ outputs: [Operand]) {
    (self.program, self.inputs, self.outputs) = (program, inputs, outputs)
    byRows = program.instructions.contains {
      switch $0.code {
      case .rowSum, .rowMaximum, .rowProduct, .columnSum, .turn: true
      default: false
      }
    }
    sums = program.registers.indices.filter {
      program.registers[$0].extent == .columns || program.registers[$0].extent == .total
    }
    let width = program.width
    let rowMatters = byRows || program.registers.contains { $0.extent == .small }
    let full = program.registers.filter { $0.extent == .full && $0.place != .scratch }.count
    // Many values at once would not fit the registers.
    var vector = full + program.slots > 14 ? 4 : 8
    // What one access takes is of one half of a row that is turned.
    turns = program.instructions.contains { $0.code == .turn }
    let whole = turns ? width / 2 : rowMatters ? width : program.rows * width
    while vector > 1, whole % vector != 0 { vector /= 2 }
    if vector == 2 { vector = 1 }
    self.vector = vector
    guard byRows else {
      (held, lanes, threads) = (vector, 1, 256)
      return
    }
    let wanted = (width + vector - 1) / vector
    if wanted <= 32 || (vector == 1 && wanted <= 128) {
      var lanes = 1
      while lanes < min(32, wanted) { lanes *= 2 }
      (self.lanes, threads) = (lanes, 256)
      held = (wanted + lanes - 1) / lanes * vector
    } else {
      let most = vector == 1 ? (width > 2048 ? 1024 : 256) : 1024
      threads = min(most, (wanted + 31) / 32 * 32)
      lanes = threads
      held = (wanted + threads - 1) / threads * vector
    }
  }

  /// Rows that a block takes at once.
  var rowsAtOnce: Int { threads / lanes }
  private var count: Int { program.rows * program.width }

  /// Blocks of the launch.
  var blocks: Int {
    let wanted =
      byRows
      ? (program.rows + rowsAtOnce - 1) / rowsAtOnce : (count + threads * vector - 1) / (threads * vector)
    return max(1, sums.isEmpty ? wanted : min(FusedSource.multiprocessors * together, wanted))
  }

  /// Elements of the partial sums of register `index`, for one block.
  func partialSize(_ index: Int) -> Int { program.registers[index].extent == .columns ? program.width : 1 }

  /// Whether an index into the operands needs 64 bits.
  private var isWide: Bool {
    if count >= 1 << 31 { return true }
    return program.registers.contains {
      guard case .input(_, .strided(let pattern)) = $0.place else { return false }
      let reach = zip(pattern.shape, pattern.strides).reduce(pattern.offset) {
        $0 + ($1.0 - 1) * max(0, $1.1)
      }
      return reach >= 1 << 31
    }
  }

  /// The whole text; the entry is `group`.
  var text: String {
    let index = isWide ? "i64" : "int"
    var lines: [String] = []
    let parameters =
      inputs.indices.map { "const \(inputs[$0].cType) *x\($0)" }
      + outputs.enumerated().filter { output in
        program.registers.contains { $0.place == .output(output.offset) && !isSum($0) }
      }.map { "\($0.element.cType) *y\($0.offset)" } + sums.map { "float *p\($0)" }
    lines.append("typedef \(index) Index;")
    // So that all blocks that read ahead are there at once.
    let kernel = ahead.isEmpty ? "KERNEL(\(threads))" : "KERNEL(\(threads), \(together))"
    lines.append("\(kernel) group(\(parameters.joined(separator: ", "))) {")
    if byRows && lanes > 32 { lines.append("  __shared__ float scratch[32];") }
    if turns, !turnsInWarp { lines.append("  __shared__ float turned[\(rowsAtOnce * program.width)];") }
    if !sums.isEmpty { lines.append("  __shared__ float whole[\(max(32, columnsBuffer))];") }
    for sum in sums {
      let size = program.registers[sum].extent == .columns ? "[\(held)]" : ""
      lines.append("  float s\(sum)\(size) = \(size.isEmpty ? "0" : "{}");")
    }
    lines += byRows ? rowLoop : flatLoop
    for sum in sums { lines += finish(sum) }
    lines.append("}")
    return lines.joined(separator: "\n") + "\n"
  }

  private func isSum(_ register: RowProgram.Register) -> Bool {
    register.extent == .columns || register.extent == .total
  }

  private var columnsBuffer: Int {
    sums.contains { program.registers[$0].extent == .columns } && rowsAtOnce > 1
      ? rowsAtOnce * program.width : 0
  }

  // MARK: Loops

  private var flatLoop: [String] {
    let total = count / vector
    var lines = [
      "  for (Index chunk = (Index)blockIdx.x * \(threads) + threadIdx.x; chunk < \(total); chunk += (Index)gridDim.x * \(threads)) {",
      "    const Index at = chunk * \(vector);",
    ]
    if program.registers.contains(where: { $0.extent == .small }) {
      lines.append("    const Index row = at / \(program.width);")
    }
    lines += body(guarded: nil, first: "at % \(program.width) == 0")
    lines.append("  }")
    return lines
  }

  private var rowLoop: [String] {
    var lines = [
      "  const int lane = threadIdx.x % \(lanes), group_row = threadIdx.x / \(lanes);"
    ]
    lines += declareAhead
    lines += [
      "  for (Index base = (Index)blockIdx.x * \(rowsAtOnce); base < \(program.rows); base += (Index)gridDim.x * \(rowsAtOnce)) {",
      "    const Index row = base + group_row;",
      "    const bool live = row < \(program.rows);",
    ]
    lines += body(guarded: "live", first: "lane == 0")
    lines.append("  }")
    return lines
  }

  /// Whether a thread's chunk may lie past the end of a row.
  var overhangs: Bool { byRows && lanes * held != program.width }

  func column(_ chunk: Int) -> String {
    byRows ? "(\(chunk * lanes) + lane) * \(vector)" : "0"
  }

  private func body(guarded: String?, first: String) -> [String] {
    var lines: [String] = []
    let chunks = held / vector
    // What is read.
    lines += takeAhead
    let ahead = ahead
    for (index, register) in program.registers.enumerated() {
      guard case .input(let input, let access) = register.place, !ahead.contains(index) else { continue }
      if register.extent == .small {
        lines.append("    float r\(index) = 0;")
        let load = "r\(index) = load(x\(input) + \(offset(access, "row")));"
        lines.append("    " + (guarded.map { "if (\($0)) " } ?? "") + load)
        continue
      }
      lines.append("    float r\(index)[\(held)];")
      for chunk in 0..<chunks {
        let at = byRows ? "(Index)row * \(program.width) + \(column(chunk))" : "at"
        var condition = guarded
        if overhangs {
          condition = (condition.map { $0 + " && " } ?? "") + "\(column(chunk)) < \(program.width)"
        }
        let names = (0..<vector).map { "r\(index)[\(chunk * vector + $0)]" }
        var part = loadVector("x\(input)", access, at, names)
        if let condition {
          part = "if (\(condition)) { \(part) } else { \(names.map { "\($0) = 0;" }.joined(separator: " ")) }"
        }
        lines.append("    { \(part) }")
      }
    }
    for job in program.instructions { lines += instruction(job, guarded: guarded) }
    // What is written; a row's other threads may still read what a small output replaces.
    let small = program.registers.contains { register in
      if case .output = register.place { return register.extent == .small }
      return false
    }
    if small, byRows, lanes > 32 { lines.append("    __syncthreads();") }
    for (index, register) in program.registers.enumerated() {
      guard case .output(let output) = register.place, !isSum(register) else { continue }
      if register.extent == .small {
        let condition = [guarded, first].compactMap { $0 }.joined(separator: " && ")
        lines.append("    if (\(condition)) store(y\(output) + row, r\(index));")
        continue
      }
      for chunk in 0..<chunks {
        let at = byRows ? "(Index)row * \(program.width) + \(column(chunk))" : "at"
        var condition = guarded
        if overhangs {
          condition = (condition.map { $0 + " && " } ?? "") + "\(column(chunk)) < \(program.width)"
        }
        let names = (0..<vector).map { "r\(index)[\(chunk * vector + $0)]" }
        let part = storeVector("y\(output)", at, names)
        lines.append("    \(condition.map { "if (\($0)) " } ?? ""){ \(part) }")
      }
    }
    return lines
  }

  // MARK: Memory

  /// The offset, in elements, of dense index `at`.
  func offset(_ access: RowProgram.Access, _ at: String) -> String {
    guard case .strided(let pattern) = access else { return at }
    return pattern.shape.count == 1 && pattern.strides[0] == 1
      ? "\(at) + \(pattern.offset)" : terms(pattern, at)
  }

  private func terms(_ pattern: Pattern, _ at: String) -> String {
    let unsigned = isWide ? "u64" : "u32"
    var terms = ["(Index)\(pattern.offset)"]
    var below = 1
    for axis in pattern.shape.indices.reversed() {
      let quotient = below == 1 ? "(\(unsigned))(\(at))" : "(\(unsigned))(\(at)) / \(below)u"
      let digit = axis == 0 ? quotient : "(\(quotient)) % \(pattern.shape[axis])u"
      if pattern.strides[axis] != 0 { terms.append("(Index)(\(digit)) * (\(pattern.strides[axis]))") }
      below *= pattern.shape[axis]
    }
    return "(" + terms.joined(separator: " + ") + ")"
  }

  private func loadVector(
    _ pointer: String, _ access: RowProgram.Access, _ at: String, _ names: [String]
  ) -> String {
    switch access {
    case .dense: return loadDense("\(pointer) + (\(at))", names)
    case .strided(let pattern):
      let (inner, step) = (pattern.shape[pattern.shape.count - 1], pattern.strides[pattern.strides.count - 1])
      if inner % vector == 0, step == 0 {
        return "const float v = load(\(pointer) + \(offset(access, at))); "
          + names.map { "\($0) = v;" }.joined(separator: " ")
      }
      if isWhole(pattern) {
        return loadDense("\(pointer) + \(offset(access, at))", names)
      }
      return "const Index i = \(at); "
        + names.enumerated().map { "\($1) = load(\(pointer) + \(offset(access, "(i + \($0))")));" }
        .joined(separator: " ")
    }
  }

  /// Whether a thread's chunk lies together, where it can be read at once.
  func isWhole(_ pattern: Pattern) -> Bool {
    pattern.strides.last == 1 && (pattern.shape.last ?? 1) % vector == 0 && pattern.offset % vector == 0
      && pattern.strides.dropLast().allSatisfy { $0 % vector == 0 }
  }

  private func loadDense(_ address: String, _ names: [String]) -> String {
    if names.count == 1 { return "\(names[0]) = load(\(address));" }
    if names.count == 8 {
      return "float v[8]; load8(v, \(address)); "
        + names.enumerated().map { "\($1) = v[\($0)];" }.joined(separator: " ")
    }
    return "float v[4]; load4(v, \(address)); "
      + names.enumerated().map { "\($1) = v[\($0)];" }.joined(separator: " ")
  }

  private func storeVector(_ pointer: String, _ at: String, _ names: [String]) -> String {
    if names.count == 1 { return "store(\(pointer) + (\(at)), \(names[0]));" }
    if names.count == 8 {
      return "const float v[8] = {\(names.joined(separator: ", "))}; store8(\(pointer) + (\(at)), v);"
    }
    return "const float v[4] = {\(names.joined(separator: ", "))}; store4(\(pointer) + (\(at)), v);"
  }

  // MARK: Instructions

  private func isFull(_ register: Int) -> Bool { program.registers[register].extent == .full }

  private func value(_ register: Int) -> String { isFull(register) ? "r\(register)[e]" : "r\(register)" }

  /// Numbers of 16 bits need no last digits.
  private var isRough: Bool { (inputs + outputs).contains { $0.dtype == .bfloat16 } }

  private func instruction(_ job: RowProgram.Instruction, guarded: String?) -> [String] {
    let (a, b) = (value(job.a), value(job.b))
    func each(_ expression: String) -> [String] {
      isFull(job.to)
        ? [
          "    float r\(job.to)[\(held)];",
          "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) r\(job.to)[e] = \(expression);",
        ] : ["    float r\(job.to) = \(expression);"]
    }
    switch job.code {
    case .unary(let function): return each(FusedSource.text(function, a, isRough))
    case .binary(let function): return each(FusedSource.text(function, a, b, isRough))
    case .affine(let scale, let offset):
      if offset == 0 { return each("\(a) * \(FusedSource.literal(scale))") }
      if scale == 1 { return each("\(a) + \(FusedSource.literal(offset))") }
      return each("fmaf(\(a), \(FusedSource.literal(scale)), \(FusedSource.literal(offset)))")
    case .expand: return each(a)
    case .exponentialBelow: return each("\(isRough ? "__expf" : "expf")(\(a) - \(b))")
    case .turn: return turn(job)
    case .rowSum: return alongRow(job, "t += \(a);")
    case .rowProduct: return alongRow(job, "t = fmaf(\(a), \(b), t);")
    case .rowMaximum: return alongRow(job, "t = larger(t, \(a));")
    case .columnSum:
      return [
        "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) s\(job.to)[e] += \(condition(guarded)) ? \(a) : 0.0f;"
      ]
    case .totalSum:
      return [
        "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) s\(job.to) += \(condition(guarded)) ? \(a) : 0.0f;"
      ]
    }
  }

  /// The place in its row of element `e` of a thread.
  var position: String { "((e / \(vector)) * \(lanes) + lane) * \(vector) + e % \(vector)" }

  /// Whether element `e` of a thread is one of the row.
  private func condition(_ guarded: String?) -> String {
    var parts: [String] = []
    if let guarded { parts.append(guarded) }
    if overhangs { parts.append("((e / \(vector)) * \(lanes) + lane) * \(vector) < \(program.width)") }
    return parts.isEmpty ? "true" : "(\(parts.joined(separator: " && ")))"
  }

  private func alongRow(_ job: RowProgram.Instruction, _ step: String) -> [String] {
    let isMaximum = job.code == .rowMaximum
    var lines = [
      "    float r\(job.to);", "    {", "      float t = \(isMaximum ? "-INFINITY" : "0.0f");",
      "      _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) if (\(overhangs ? condition(nil) : "true")) { \(step) }",
    ]
    if lanes > 32 {
      lines.append("      r\(job.to) = \(isMaximum ? "block_max" : "block_sum")(t, scratch);")
    } else {
      var reach = lanes / 2
      while reach > 0 {
        let other = "__shfl_xor_sync(0xffffffffu, t, \(reach))"
        lines.append(isMaximum ? "      t = larger(t, \(other));" : "      t += \(other);")
        reach /= 2
      }
      lines.append("      r\(job.to) = t;")
    }
    lines.append("    }")
    return lines
  }

  /// Writes a block's part of a sum over rows.
  private func finish(_ sum: Int) -> [String] {
    guard program.registers[sum].extent == .columns else {
      return [
        "  {", "    const float t = block_sum(s\(sum), whole);",
        "    if (threadIdx.x == 0) p\(sum)[blockIdx.x] = t;", "  }",
      ]
    }
    let width = program.width
    if rowsAtOnce == 1 {
      return [
        "  _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) if (\(position) < \(width)) p\(sum)[(i64)blockIdx.x * \(width) + \(position)] = s\(sum)[e];"
      ]
    }
    return [
      "  __syncthreads();",
      "  _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) if (\(position) < \(width)) whole[group_row * \(width) + \(position)] = s\(sum)[e];",
      "  __syncthreads();",
      "  for (int j = threadIdx.x; j < \(width); j += \(threads)) {", "    float t = 0;",
      "    for (int k = 0; k < \(rowsAtOnce); k++) t += whole[k * \(width) + j];",
      "    p\(sum)[(i64)blockIdx.x * \(width) + j] = t;", "  }",
    ]
  }
}
