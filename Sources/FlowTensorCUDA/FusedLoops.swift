import FlowTensor

/// A fused group's loops over rows or elements, and what stands in them.
extension FusedSource {
  var flatLoop: [String] {
    let total = count / vector
    var lines = [
      "  for (Index chunk = (Index)blockIdx.x * \(threads) + threadIdx.x; chunk < \(total); chunk += (Index)gridDim.x * \(threads)) {",
      "    const Index at = chunk * \(vector);",
    ]
    if program.registers.contains(where: { $0.extent == .small }) {
      lines.append("    const Index row = at / \(program.width);")
    }
    lines += body(0, first: "at % \(program.width) == 0")
    lines.append("  }")
    return lines
  }

  var rowLoop: [String] {
    var lines = [
      "  const int lane = threadIdx.x % \(lanes), group_row = threadIdx.x / \(lanes);"
    ]
    for index in program.registers.indices where isKept(index) { lines += read(index, 0) }
    lines += declareAhead
    let step = "(Index)gridDim.x * \(rowsAtOnce)"
    // What is read two turns ahead lies in registers of its own: moved, it would have to be there.
    let turns = max(1, form.ahead)
    if walks {
      let next = turns > 1 ? "" : " base += " + (form.rows > 1 ? "\(form.rows) * " : "") + step
      lines.append(
        "  for (Index base = (Index)blockIdx.x * \(rowsAtOnce); base < \(program.rows);\(next)) {")
    } else {
      let taken = rowsAtOnce * form.rows
      lines.append(
        "  for (Index base = (Index)blockIdx.x * \(taken); base < \(program.rows); base += (Index)gridDim.x * \(taken)) {"
      )
    }
    for turn in 0..<turns {
      if turns > 1 { lines.append(turn > 0 ? "    if (base >= \(program.rows)) break;\n    {" : "    {") }
      for k in 0..<form.rows {
        let first = form.rows > 1 && !walks ? "base + group_row * \(form.rows)" : "base + group_row"
        lines += [
          "    const Index \(row(k)) = \(k == 0 ? first : walks ? "row + \(k) * \(step)" : "row + \(k)");",
          "    const bool \(live(k)) = \(isAlwaysLive(k) ? "true" : "\(row(k)) < \(program.rows)");",
        ]
      }
      lines += body(turn, first: "lane == 0")
      if turns > 1 {
        lines.append("    }\n    base += " + (form.rows > 1 ? "\(form.rows) * " : "") + step + ";")
      }
    }
    lines.append("  }")
    return lines
  }

  // MARK: Names, of row number `k` of those that a thread has at once

  func row(_ k: Int) -> String { k == 0 ? "row" : "row_\(k)" }
  /// Whether there is such a row.
  func live(_ k: Int) -> String { k == 0 ? "live" : "live_\(k)" }
  /// Whether there always is one.
  private func isAlwaysLive(_ k: Int) -> Bool {
    walks ? k == 0 && program.rows % rowsAtOnce == 0 : program.rows % (rowsAtOnce * form.rows) == 0
  }
  /// What holds a register's values.
  func name(_ register: Int, _ k: Int) -> String {
    k == 0 || isCommon(register) ? "r\(register)" : "r\(register)_\(k)"
  }

  // MARK: A turn

  /// Whether a thread's chunk may lie past the end of a row.
  var overhangs: Bool { byRows && lanes * held != program.width }

  func column(_ chunk: Int) -> String {
    byRows ? "(\(chunk * lanes) + lane) * \(vector)" : "0"
  }

  /// The index of a thread's chunk in row `k`, and when it is one.
  private func place(_ chunk: Int, _ k: Int) -> (at: String, condition: String?) {
    guard byRows else { return ("at", nil) }
    let within = overhangs ? " && \(column(chunk)) < \(program.width)" : ""
    return ("(Index)\(row(k)) * \(program.width) + \(column(chunk))", live(k) + within)
  }

  /// Reads what register `index` has of row `k`; of all rows, if it is kept.
  private func read(_ index: Int, _ k: Int) -> [String] {
    guard case .input(let input, let access) = program.registers[index].place else { return [] }
    let name = name(index, k)
    if program.registers[index].extent == .small {
      let load = "\(name) = load(x\(input) + \(offset(access, row(k))));"
      return ["    float \(name) = 0;", "    " + (byRows ? "if (\(live(k))) " : "") + load]
    }
    var lines = ["    float \(name)[\(held)];"]
    for chunk in 0..<held / vector {
      if chunk > 0, turnsInThread, case .strided(let pattern) = access, repeatsHalves(pattern) {
        lines += (0..<vector).map { "    \(name)[\(vector + $0)] = \(name)[\($0)];" }
        continue
      }
      var (at, condition) = place(chunk, k)
      if isKept(index) {
        (at, condition) = (column(chunk), overhangs ? "\(column(chunk)) < \(program.width)" : nil)
      }
      let names = (0..<vector).map { "\(name)[\(chunk * vector + $0)]" }
      var part = loadVector("x\(input)", access, at, names)
      if let condition {
        part = "if (\(condition)) { \(part) } else { \(names.map { "\($0) = 0;" }.joined(separator: " ")) }"
      }
      lines.append("    { \(part) }")
    }
    return lines
  }

  /// What is done with the rows that a thread has at once, in turn number `turn` of a round of the loop; `first` is true
  /// of a row's first thread.
  private func body(_ turn: Int, first: String) -> [String] {
    // What is read.
    var lines = takeAhead(turn)
    let ahead = ahead
    for k in 0..<form.rows {
      for index in program.registers.indices where !ahead.contains(index) && !isKept(index) {
        if k == 0 || !isCommon(index) { lines += read(index, k) }
      }
    }
    for job in program.instructions { lines += instruction(job) }
    // What is written; a row's other threads may still read what a small output replaces.
    let small = program.registers.contains { register in
      if case .output = register.place { return register.extent == .small }
      return false
    }
    if small, byRows, lanes > 32 { lines.append("    __syncthreads();") }
    for k in 0..<form.rows {
      for (index, register) in program.registers.enumerated() {
        guard case .output(let output) = register.place, !FusedSource.isSum(register) else { continue }
        if register.extent == .small {
          let condition = (byRows ? live(k) + " && " : "") + first
          lines.append("    if (\(condition)) store(y\(output) + \(row(k)), \(name(index, k)));")
          continue
        }
        for chunk in 0..<held / vector {
          let (at, condition) = place(chunk, k)
          let names = (0..<vector).map { "\(name(index, k))[\(chunk * vector + $0)]" }
          let part = storeVector("y\(output)", at, names)
          lines.append("    \(condition.map { "if (\($0)) " } ?? ""){ \(part) }")
        }
      }
    }
    return lines
  }
}
