import FlowTensor

/// Rows read ahead that wait in shared memory, where more of them have room than in registers: so many bytes must be under
/// way that memory is never idle. A thread copies its part of each row, and takes apart what it itself copied, for which
/// no barrier is needed.
extension FusedSource {
  /// Whether a multiprocessor's blocks have the memory, if a thread's part of a row is as many registers as `words`.
  func fitsStaged(_ words: Int) -> Bool {
    // What else there is at most, as `text` declares it.
    let turned = turns && !turnsInThread && !turnsInWarp ? rowsAtOnce * program.width : 0
    let others = 64 + (sums.isEmpty ? 0 : max(32, columnsBuffer)) + turned
    let bytes = 4 * (others + form.ahead * words * threads)
    // A block's limit for arrays of a fixed size; a multiprocessor's, of which the driver has a kilobyte for each block.
    return form.rows == 1 && bytes <= 48 << 10 && together * (bytes + 1024) <= 227 << 10
  }

  /// What a thread copies at once.
  private struct Piece {
    let input: Int
    let access: RowProgram.Access
    /// Elements from the beginning of which chunk on.
    let (chunk, element): (Int, Int)
    /// What holds it once it is read back, and its type.
    let (name, type): (String, String)
    let bytes: Int
    /// Where the first thread's lies, in bytes from the beginning of what waits for a row; the others' follow.
    let at: Int
  }

  /// All that a thread copies of a row.
  private var pieces: [Piece] {
    var found: [Piece] = []
    for index in ahead.sorted() where program.registers[index].extent != .small {
      guard case .input(let input, let access) = program.registers[index].place else { continue }
      for chunk in 0..<held / vector {
        let packed = packed(index, 0, chunk, input)
        let each = vector / packed.names.count
        for (part, name) in packed.names.enumerated() {
          found.append(
            Piece(
              input: input, access: access, chunk: chunk, element: part * each, name: name, type: packed.type,
              bytes: each * inputs[input].dtype.size, at: found.last.map { $0.at + $0.bytes * threads } ?? 0))
        }
      }
    }
    return found
  }

  /// Bytes of what waits for a row, of all threads.
  private var stage: Int { pieces.reduce(0) { $0 + $1.bytes * threads } }

  /// Begins to copy row `row` to `to`, if it is one. Without one as well it counts as a group of copies: that of the oldest
  /// row is always as many groups ago.
  private func copy(_ row: String, _ to: String) -> [String] {
    var lines = ["if (\(row) < \(program.rows)) {"]
    for piece in pieces {
      let within = overhangs ? "if (\(column(piece.chunk)) < \(program.width)) " : ""
      let place = "staged + (\(to) + \(piece.at) + threadIdx.x * \(piece.bytes))"
      let from = offset(piece.access, "((Index)\(row) * \(program.width) + \(column(piece.chunk)))")
      let start = "x\(piece.input) + (\(from))" + (piece.element > 0 ? " + \(piece.element)" : "")
      lines.append("  \(within)copy_async\(piece.bytes == 8 ? "8(" : "(")\(place), \(start), true);")
    }
    return lines + ["}", "copy_commit();"]
  }

  /// Reads what one number is of row `row`. It waits in a register, one row ahead.
  private func readSmall(_ row: String) -> [String] {
    ahead.sorted().compactMap { index in
      guard program.registers[index].extent == .small,
        case .input(let input, let access) = program.registers[index].place
      else { return nil }
      return "if (\(row) < \(program.rows)) \(waiting(index, 0)) = load(x\(input) + \(offset(access, row)));"
    }
  }

  /// Before the loop: the first rows are being copied.
  var declareStaged: [String] {
    let step = "(Index)gridDim.x * \(rowsAtOnce)"
    var lines = [
      "__shared__ __align__(16) u8 staged[\(form.ahead * stage)];", "int stage = 0;",
      "const Index first_row = (Index)blockIdx.x * \(rowsAtOnce) + group_row;",
    ]
    lines += ahead.sorted().filter { program.registers[$0].extent == .small }.map {
      "float \(waiting($0, 0)) = 0;"
    }
    lines += readSmall("first_row")
    for place in 0..<form.ahead {
      lines += copy(place == 0 ? "first_row" : "(first_row + \(place) * \(step))", "\(place * stage)")
    }
    return lines.map { "  " + $0 }
  }

  /// In a turn of the loop: the oldest row is read back and taken apart, and the one copied that is next in its place.
  var takeStaged: [String] {
    let step = "(Index)gridDim.x * \(rowsAtOnce)"
    var lines = ["copy_wait<\(form.ahead - 1)>();"]
    lines += pieces.map {
      "const \($0.type) \($0.name) = *(const \($0.type) *)(staged + (stage + \($0.at) + threadIdx.x * \($0.bytes)));"
    }
    let small = readSmall("next")
    var after = small.isEmpty ? [] : ["const Index next = \(row(0)) + \(step);"] + small
    after.append("const Index later = \(row(0)) + \(form.ahead) * \(step);")
    after += copy("later", "stage")
    after.append("stage = stage == \((form.ahead - 1) * stage) ? 0 : stage + \(stage);")
    return lines.map { "    " + $0 } + take(0, 0) + after.map { "    " + $0 }
  }
}
