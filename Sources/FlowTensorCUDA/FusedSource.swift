import FlowTensor

/// The text of a kernel for a fused group.
///
/// Two forms. Flat: a thread takes a few neighbouring elements. By rows, where sums along or over rows are wanted: a row is
/// spread over lanes of a warp or over a block, so that its values stay in registers between a sum and what is made of it.
/// Sums over all rows are left as partial sums per block, in an order that depends on sizes only.
struct FusedSource {
  let program: RowProgram
  let inputs: [Operand]
  let outputs: [Operand]
  /// Elements that a thread loads at once, and holds of a row.
  let vector: Int
  let held: Int
  /// Threads that share a row: a power of two up to 32, or all of a block.
  let lanes: Int
  /// Threads of a block.
  let threads: Int
  let byRows: Bool
  let turns: Bool
  /// Whether a thread has both elements of each pair that is turned: a chunk of a row's one half, and that of the other.
  let turnsInThread: Bool
  /// Sums over all rows, as registers.
  let sums: [Int]
  let form: FusedForm
  /// Whether it is the form that is taken where none was tried.
  let isUsual: Bool

  /// Blocks on each multiprocessor of those that keep a part of a sum each, as many as registers hold of most kernels.
  var together: Int { max(1, form.threads / threads) }
  /// Multiprocessors of a Hopper: sums mustn't depend on which device it is.
  private static let multiprocessors = 132

  /// - Parameter form: the one that is taken where none was tried, if `nil`.
  init(_ program: RowProgram, _ inputs: [Operand], _ outputs: [Operand], _ form: FusedForm? = nil) {
    let usual = FusedSource.usual(program, inputs, outputs)
    self.init(program, inputs, outputs, form: form ?? usual, usual: usual)
  }

  private init(
    _ program: RowProgram, _ inputs: [Operand], _ outputs: [Operand], form: FusedForm, usual: FusedForm
  ) {
    (self.program, self.inputs, self.outputs) = (program, inputs, outputs)
    byRows = program.instructions.contains {
      switch $0.code {
      case .rowSum, .rowMaximum, .rowProduct, .columnSum, .turn: true
      default: false
      }
    }
    sums = program.registers.indices.filter { FusedSource.isSum(program.registers[$0]) }
    (self.form, isUsual) = (form, form == usual)
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
    guard byRows else {
      (self.vector, held, lanes, threads, turnsInThread) = (vector, vector, 1, 256, false)
      return
    }
    // Chunks of four: those of two halves are as many registers as one of eight.
    let shared = width / 8
    if turns, width % 8 == 0, shared <= 32, shared & (shared - 1) == 0 {
      (self.vector, held, lanes, threads, turnsInThread) = (4, 8, shared, 256, true)
      return
    }
    self.vector = vector
    turnsInThread = false
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

  /// The form that is taken where none was tried. Where a thread has two halves of rows and reads ahead, fewer threads may
  /// have more registers.
  private static func usual(
    _ program: RowProgram, _ inputs: [Operand], _ outputs: [Operand]
  ) -> FusedForm {
    guard program.registers.contains(where: isSum) else { return FusedForm() }
    let usual = FusedForm(ahead: 1)
    guard program.instructions.contains(where: { $0.code == .turn }) else { return usual }
    let roomy = FusedForm(ahead: 1, threads: 512)
    let source = FusedSource(program, inputs, outputs, form: usual, usual: usual)
    return source.turnsInThread && source.registers > 80 ? roomy : usual
  }

  /// Rows that a block takes at once.
  var rowsAtOnce: Int { threads / lanes }
  var count: Int { program.rows * program.width }

  /// Blocks of the launch.
  var blocks: Int {
    let wanted =
      byRows
      ? (program.rows + rowsTaken - 1) / rowsTaken : (count + threads * vector - 1) / (threads * vector)
    return max(1, walks ? min(FusedSource.multiprocessors * together, wanted) : wanted)
  }

  /// Whether a block goes through rows as far apart as all blocks take at once, rather than through a few neighbours.
  var walks: Bool { !sums.isEmpty || form.ahead > 0 }
  /// Rows that a block that doesn't has.
  private var rowsTaken: Int { walks ? rowsAtOnce : rowsAtOnce * form.rows }

  /// Elements of the partial sums of register `index`, for one block.
  func partialSize(_ index: Int) -> Int { program.registers[index].extent == .columns ? program.width : 1 }

  /// Whether an index into the operands needs 64 bits.
  var isWide: Bool {
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
        program.registers.contains { $0.place == .output(output.offset) && !FusedSource.isSum($0) }
      }.map { "\($0.element.cType) *y\($0.offset)" } + sums.map { "float *p\($0)" }
    lines.append("typedef \(index) Index;")
    if lanes > 32 && !isUsual { lines += FusedSource.alongRows }
    // So that all blocks that read ahead are there at once.
    let kernel = ahead.isEmpty ? "KERNEL(\(threads))" : "KERNEL(\(threads), \(together))"
    lines.append("\(kernel) group(\(parameters.joined(separator: ", "))) {")
    if byRows && lanes > 32 { lines.append("  __shared__ float scratch[\(isUsual ? 32 : 64 * form.rows)];") }
    if byRows && lanes > 32 && !isUsual { lines.append("  int part = 0;") }
    if turns, !turnsInThread, !turnsInWarp {
      lines.append("  __shared__ float turned[\(rowsAtOnce * program.width)];")
    }
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

  static func isSum(_ register: RowProgram.Register) -> Bool {
    register.extent == .columns || register.extent == .total
  }

  private var columnsBuffer: Int {
    sums.contains { program.registers[$0].extent == .columns } && rowsAtOnce > 1
      ? rowsAtOnce * program.width : 0
  }
}
