import FlowTensor

/// How a fused group's kernel goes through rows. What it computes is the same, bit by bit: a row's sums, and sums over rows,
/// are added up in the same order in each.
struct FusedForm: Hashable, Sendable {
  /// Rows that a thread works on at once: all are read before anything is made of them, and their sums share barriers.
  var rows = 1
  /// How many times as many rows are being read while it works; 0: a block takes rows once, and none is read ahead.
  var ahead = 0
  /// Whether what all rows have in common stays in registers from one to the next.
  var keeps = false
  /// Threads on a multiprocessor, where rows are read ahead: all blocks are there at once. Sums over rows depend on it.
  var threads = 768

  /// For a reader.
  var title: String {
    "\(rows) at once, \(ahead) ahead" + (keeps ? ", keeping" : "")
      + (threads == 768 ? "" : ", \(threads) threads")
  }
}

extension FusedSource {
  /// Other forms of the kernel that might be faster, few enough to be tried.
  var others: [FusedForm] {
    guard byRows, vector >= 4 else { return [] }
    func fitting(_ candidates: [FusedForm]) -> [FusedForm] {
      candidates.filter { $0 != form && FusedSource(program, inputs, outputs, $0).isWorthTrying }
    }
    if !sums.isEmpty {
      return fitting([
        FusedForm(ahead: 1, keeps: true, threads: form.threads), FusedForm(ahead: 2, threads: form.threads),
        FusedForm(ahead: 2, keeps: true, threads: form.threads),
        FusedForm(rows: 2, ahead: ahead.isEmpty ? 0 : 1, threads: form.threads),
      ])
    }
    return fitting([FusedForm(rows: 2), FusedForm(rows: 4)])
      + (1...2).flatMap { ahead in
        // As many threads as registers allow.
        fitting([1280, 768].map { FusedForm(ahead: ahead, keeps: true, threads: $0) }).prefix(1)
      }
  }

  /// Whether there are rows for it, and registers.
  private var isWorthTrying: Bool {
    if form.rows > 1 && turns && !turnsInThread && !turnsInWarp { return false }
    if form.keeps, !sums.isEmpty, !program.registers.indices.contains(where: isKept) { return false }
    if form.ahead > 0, ahead.isEmpty || blocks * rowsAtOnce * form.rows >= program.rows { return false }
    // More where all of a multiprocessor's blocks must be there at once would be kept in memory.
    let most =
      walks ? 65536 / (threads * together) / 8 * 8 * 21 / 20 : min(88, 65536 / threads / 8 * 8)
    return form.rows * rowsAtOnce < program.rows && registers <= most
  }

  /// About how many registers the compiler gives a thread: for what is read of its rows and made of it, for sums over rows,
  /// and for what is read ahead and its addresses. The factors fit what NVRTC 13 takes for norms, turned norms, softmax and
  /// their gradients within ten.
  var registers: Int {
    var (own, common) = (0, 0)
    for (index, register) in program.registers.enumerated() {
      guard case .input = register.place, register.extent == .full else { continue }
      if isCommon(index) { common += held } else { own += held }
    }
    let columns = sums.reduce(0) { $0 + (program.registers[$1].extent == .columns ? held : 1) }
    let ofRows = 6 * own + 3 * (program.slots - 1) * held + 14 * form.ahead * aheadWords
    return 16 + (form.rows * ofRows + 5 * common + 4 * columns) / 10
  }

  // MARK: What rows have in common

  /// Whether a register is the same for all rows, and is kept.
  func isKept(_ index: Int) -> Bool {
    guard form.keeps, case .input(_, .strided(let pattern)) = program.registers[index].place else {
      return false
    }
    return program.registers[index].extent == .full && isShared(pattern, by: program.rows)
  }

  /// Whether the rows that a thread has at once have it in common.
  func isCommon(_ index: Int) -> Bool {
    if isKept(index) { return true }
    guard form.rows > 1, case .input(_, .strided(let pattern)) = program.registers[index].place else {
      return false
    }
    // Neighbours, where a thread takes such.
    return program.registers[index].extent == .full
      && isShared(pattern, by: walks ? program.rows : form.rows)
  }

  /// Whether any `count` rows, from a multiple of it on, have the same elements of what lies so.
  private func isShared(_ pattern: Pattern, by count: Int) -> Bool {
    var below = 1
    for axis in pattern.shape.indices.reversed() {
      let across = below * pattern.shape[axis]
      if below < program.width && across <= program.width {
        below = across
        continue
      }
      // The first axis that goes from row to row; one that begins within a row must not matter.
      let isApart = below == program.width && (axis == 0 || pattern.shape[axis] % count == 0)
      return program.width % below == 0
        && (isApart ? pattern.strides[axis] == 0 : pattern.strides[...axis].allSatisfy { $0 == 0 })
    }
    return program.rows == 1
  }
}
