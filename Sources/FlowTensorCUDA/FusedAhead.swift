import FlowTensor

/// A kernel whose blocks go through several rows each: a thread reads its part of the next while it works on one, so that
/// reads are under way all the time.
extension FusedSource {
  /// The most registers of a thread that wait for a next row.
  private static let most = 24

  /// The registers of the program whose next values are read ahead; none where a block has one row, or they'd be too many.
  var ahead: Set<Int> { reading.registers }
  /// The registers of a thread that one row takes of those.
  var aheadWords: Int { reading.words }

  private var reading: (registers: Set<Int>, words: Int) {
    guard byRows, form.ahead > 0, blocks * rowsAtOnce < program.rows, vector >= 4 else { return ([], 0) }
    var found: Set<Int> = []
    var words = 0
    for (index, register) in program.registers.enumerated() {
      guard case .input(let input, let access) = register.place else { continue }
      if case .strided(let pattern) = access {
        // What rows share is near already.
        let isShared = pattern.strides.dropLast().contains(0)
        guard register.extent == .small || isWhole(pattern), !isShared else { continue }
      }
      found.insert(index)
      words += register.extent == .small ? 1 : held * inputs[input].dtype.size / 4
    }
    return words <= Self.most ? (found, words) : ([], 0)
  }

  /// What waits for a row of register `index`; of as many rows as are read ahead, it is number `place`.
  private func waiting(_ index: Int, _ place: Int) -> String {
    place == 0 ? "q\(index)" : "q\(index)p\(place)"
  }

  /// What holds chunk `chunk` of register `index` as it lies in memory, and its type.
  private func packed(
    _ index: Int, _ place: Int, _ chunk: Int, _ input: Int
  ) -> (type: String, names: [String]) {
    let bytes = vector * inputs[input].dtype.size
    let name = waiting(index, place)
    return (bytes == 8 ? "Pair" : "Quad", (0..<max(1, bytes / 16)).map { "\(name)_\(chunk)_\($0)" })
  }

  /// Reads row `row` of what is read ahead, if it is one.
  private func read(_ row: String, _ place: Int) -> [String] {
    var lines = ["if (\(row) < \(program.rows)) {"]
    for index in ahead.sorted() {
      guard case .input(let input, let access) = program.registers[index].place else { continue }
      if program.registers[index].extent == .small {
        lines.append("  \(waiting(index, place)) = load(x\(input) + \(offset(access, row)));")
        continue
      }
      for chunk in 0..<held / vector {
        let packed = packed(index, place, chunk, input)
        let from = offset(access, "((Index)\(row) * \(program.width) + \(column(chunk)))")
        let parts = packed.names.enumerated().map { "\($1) = ((const \(packed.type) *)from)[\($0)];" }
        let within = overhangs ? "if (\(column(chunk)) < \(program.width)) " : ""
        lines.append(
          "  \(within){ const \(inputs[input].cType) *from = x\(input) + \(from); \(parts.joined(separator: " ")) }"
        )
      }
    }
    return lines + ["}"]
  }

  /// Before the loop: the first rows are read.
  var declareAhead: [String] {
    let step = "(Index)gridDim.x * \(rowsAtOnce)"
    var lines: [String] = []
    for place in 0..<form.ahead * form.rows {
      for index in ahead.sorted() {
        guard case .input(let input, _) = program.registers[index].place else { continue }
        if program.registers[index].extent == .small {
          lines.append("  float \(waiting(index, place)) = 0;")
          continue
        }
        for chunk in 0..<held / vector {
          let packed = packed(index, place, chunk, input)
          lines.append("  \(packed.type) " + packed.names.map { $0 + " = {}" }.joined(separator: ", ") + ";")
        }
      }
    }
    if lines.isEmpty { return [] }
    lines.append("  const Index first_row = (Index)blockIdx.x * \(rowsAtOnce) + group_row;")
    for place in 0..<form.ahead * form.rows {
      lines += read(place == 0 ? "first_row" : "(first_row + \(place) * \(step))", place).map { "  " + $0 }
    }
    return lines
  }

  /// In turn number `turn` of a round of the loop: what was read is taken apart, and the rows read that are next in its place.
  func takeAhead(_ turn: Int) -> [String] {
    if ahead.isEmpty { return [] }
    var lines: [String] = []
    for k in 0..<form.rows { lines += take(turn * form.rows + k, k) }
    for k in 0..<form.rows {
      let later = k == 0 ? "later" : "later_\(k)"
      let next = form.ahead * form.rows == 1 ? "" : "\(form.ahead * form.rows) * "
      lines.append("    const Index \(later) = \(row(k)) + \(next)(Index)gridDim.x * \(rowsAtOnce);")
      lines += read(later, turn * form.rows + k).map { "    " + $0 }
    }
    return lines
  }

  /// Takes apart what waited for row `k`.
  private func take(_ place: Int, _ k: Int) -> [String] {
    var lines: [String] = []
    for index in ahead.sorted() {
      guard case .input(let input, _) = program.registers[index].place else { continue }
      if program.registers[index].extent == .small {
        lines.append("    float \(name(index, k)) = \(waiting(index, place));")
        continue
      }
      var values: [String] = []
      for chunk in 0..<held / vector {
        let packed = packed(index, place, chunk, input)
        for element in 0..<vector {
          if inputs[input].dtype == .bfloat16 {
            values.append(
              "\(element % 2 == 0 ? "low" : "high")_bf16(\(packed.names[0]).\("xyzw".at(element / 2)))")
          } else {
            values.append("__uint_as_float(\(packed.names[element / 4]).\("xyzw".at(element % 4)))")
          }
        }
      }
      lines.append("    float \(name(index, k))[\(held)] = {\(values.joined(separator: ", "))};")
    }
    return lines
  }
}

extension String {
  /// Character number `index`.
  fileprivate func at(_ index: Int) -> Character { self[self.index(startIndex, offsetBy: index)] }
}
