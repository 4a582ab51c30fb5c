import FlowTensor

/// A kernel whose blocks keep sums over rows goes through several rows each: a thread reads its part of the next while it
/// works on one, so that reads are under way all the time.
extension FusedSource {
  /// The most registers of a thread that wait for a next row.
  private static let most = 24

  /// The registers of the program whose next values are read ahead; none where a block has one row, or they'd be too many.
  var ahead: Set<Int> {
    guard byRows, !sums.isEmpty, blocks * rowsAtOnce < program.rows, vector >= 4 else { return [] }
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
    return words <= Self.most ? found : []
  }

  /// What holds chunk `chunk` of register `index` as it lies in memory, and its type.
  private func packed(_ index: Int, _ chunk: Int, _ input: Int) -> (type: String, names: [String]) {
    let bytes = vector * inputs[input].dtype.size
    return (bytes == 8 ? "Pair" : "Quad", (0..<max(1, bytes / 16)).map { "q\(index)_\(chunk)_\($0)" })
  }

  /// Reads row `row` of what is read ahead, if it is one.
  private func read(_ row: String) -> [String] {
    var lines = ["if (\(row) < \(program.rows)) {"]
    for index in ahead.sorted() {
      guard case .input(let input, let access) = program.registers[index].place else { continue }
      if program.registers[index].extent == .small {
        lines.append("  q\(index) = load(x\(input) + \(offset(access, row)));")
        continue
      }
      for chunk in 0..<held / vector {
        let place = packed(index, chunk, input)
        let from = offset(access, "((Index)\(row) * \(program.width) + \(column(chunk)))")
        let parts = place.names.enumerated().map { "\($1) = ((const \(place.type) *)from)[\($0)];" }
        let within = overhangs ? "if (\(column(chunk)) < \(program.width)) " : ""
        lines.append(
          "  \(within){ const \(inputs[input].cType) *from = x\(input) + \(from); \(parts.joined(separator: " ")) }"
        )
      }
    }
    return lines + ["}"]
  }

  /// Before the loop: the first row is read.
  var declareAhead: [String] {
    var lines: [String] = []
    for index in ahead.sorted() {
      guard case .input(let input, _) = program.registers[index].place else { continue }
      if program.registers[index].extent == .small {
        lines.append("  float q\(index) = 0;")
        continue
      }
      for chunk in 0..<held / vector {
        let place = packed(index, chunk, input)
        lines.append("  \(place.type) " + place.names.map { $0 + " = {}" }.joined(separator: ", ") + ";")
      }
    }
    if lines.isEmpty { return [] }
    lines.append("  const Index first_row = (Index)blockIdx.x * \(rowsAtOnce) + group_row;")
    return lines + read("first_row").map { "  " + $0 }
  }

  /// In the loop: what was read is taken apart, and the next row read.
  var takeAhead: [String] {
    var lines: [String] = []
    for index in ahead.sorted() {
      guard case .input(let input, _) = program.registers[index].place else { continue }
      if program.registers[index].extent == .small {
        lines.append("    float r\(index) = q\(index);")
        continue
      }
      var values: [String] = []
      for chunk in 0..<held / vector {
        let place = packed(index, chunk, input)
        for element in 0..<vector {
          if inputs[input].dtype == .bfloat16 {
            values.append(
              "\(element % 2 == 0 ? "low" : "high")_bf16(\(place.names[0]).\("xyzw".at(element / 2)))")
          } else {
            values.append("__uint_as_float(\(place.names[element / 4]).\("xyzw".at(element % 4)))")
          }
        }
      }
      lines.append("    float r\(index)[\(held)] = {\(values.joined(separator: ", "))};")
    }
    if lines.isEmpty { return [] }
    lines.append("    const Index later = row + (Index)gridDim.x * \(rowsAtOnce);")
    return lines + read("later").map { "    " + $0 }
  }
}

extension String {
  /// Character number `index`.
  fileprivate func at(_ index: Int) -> Character { self[self.index(startIndex, offsetBy: index)] }
}
