import FlowTensor

/// The instructions of a fused group, element by element or along a row, and the ends of its sums over rows.
extension FusedSource {
  private func isFull(_ register: Int) -> Bool { program.registers[register].extent == .full }

  private func value(_ register: Int, _ k: Int) -> String {
    name(register, k) + (isFull(register) ? "[e]" : "")
  }

  /// Numbers of 16 bits need no last digits.
  private var isRough: Bool { (inputs + outputs).contains { $0.dtype == .bfloat16 } }

  /// What `job` does with each of the rows that a thread has at once.
  func instruction(_ job: RowProgram.Instruction) -> [String] {
    switch job.code {
    case .rowSum, .rowProduct, .rowMaximum: alongRows(job)
    default: (0..<form.rows).flatMap { instruction(job, $0) }
    }
  }

  private func instruction(_ job: RowProgram.Instruction, _ k: Int) -> [String] {
    let (a, b, to) = (value(job.a, k), value(job.b, k), name(job.to, k))
    func each(_ expression: String) -> [String] {
      isFull(job.to)
        ? [
          "    float \(to)[\(held)];",
          "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) \(to)[e] = \(expression);",
        ] : ["    float \(to) = \(expression);"]
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
    case .turn: return turn(job, k)
    case .rowSum: return alongRow(job, k, "t += \(a);")
    case .rowProduct: return alongRow(job, k, "t = fmaf(\(a), \(b), t);")
    case .rowMaximum: return alongRow(job, k, "t = larger(t, \(a));")
    case .columnSum:
      return [
        "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) s\(job.to)[e] += \(isThere(k)) ? \(a) : 0.0f;"
      ]
    case .totalSum:
      return [
        "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) s\(job.to) += \(isThere(k)) ? \(a) : 0.0f;"
      ]
    }
  }

  /// The place in its row of element `e` of a thread.
  var position: String { "((e / \(vector)) * \(lanes) + lane) * \(vector) + e % \(vector)" }

  /// Whether element `e` of a thread is one of row `k`; with `nil`, of any.
  private func isThere(_ k: Int?) -> String {
    var parts: [String] = []
    if let k, byRows { parts.append(live(k)) }
    if overhangs { parts.append("((e / \(vector)) * \(lanes) + lane) * \(vector) < \(program.width)") }
    return parts.isEmpty ? "true" : "(\(parts.joined(separator: " && ")))"
  }

  /// A sum or maximum along each row: in forms other than the usual, of all rows of a block with one barrier.
  private func alongRows(_ job: RowProgram.Instruction) -> [String] {
    var lines = (0..<form.rows).flatMap { instruction(job, $0) }
    guard !isUsual, lanes > 32 else { return lines }
    let names = (0..<form.rows).map { name(job.to, $0) }
    lines += [
      "    {", "      float t[\(form.rows)] = {\(names.joined(separator: ", "))};",
      "      along_rows<\(job.code == .rowMaximum), \(threads / 32)>(t, scratch + part);",
      "      part ^= \(32 * form.rows);",
    ]
    return lines + names.enumerated().map { "      \($1) = t[\($0)];" } + ["    }"]
  }

  /// The sums, or largest, over the block's threads of several numbers, each in the order of `block_sum` and `block_max`.
  /// The next call must have other `scratch`, the one after it may have the same: its barrier is behind what is read here.
  static let alongRows = [
    "template <bool is_maximum, int warps, int n> DEVICE void along_rows(float (&x)[n], float *scratch) {",
    "  _Pragma(\"unroll\") for (int k = 0; k < n; k++) x[k] = is_maximum ? warp_max(x[k]) : warp_sum(x[k]);",
    "  if (threadIdx.x % 32 == 0) {",
    "    _Pragma(\"unroll\") for (int k = 0; k < n; k++) scratch[k * 32 + threadIdx.x / 32] = x[k];",
    "  }", "  __syncthreads();",
    "  _Pragma(\"unroll\") for (int k = 0; k < n; k++) {",
    "    x[k] = is_maximum ? scratch[k * 32] : 0.0f;",
    "    _Pragma(\"unroll\") for (int i = is_maximum; i < warps; i++) {",
    "      const float y = scratch[k * 32 + i];", "      x[k] = is_maximum ? larger(x[k], y) : x[k] + y;",
    "    }",
    "  }", "}",
  ]

  /// A thread's part along row `k`, or where a row lies within a warp all of it.
  private func alongRow(_ job: RowProgram.Instruction, _ k: Int, _ step: String) -> [String] {
    let isMaximum = job.code == .rowMaximum
    var lines = [
      "    float \(name(job.to, k));", "    {", "      float t = \(isMaximum ? "-INFINITY" : "0.0f");",
      "      _Pragma(\"unroll\") for (int e = 0; e < \(held); e++) if (\(overhangs ? isThere(nil) : "true")) { \(step) }",
    ]
    if lanes > 32 {
      let whole = isMaximum ? "block_max" : "block_sum"
      lines.append("      \(name(job.to, k)) = \(isUsual ? "\(whole)(t, scratch)" : "t");")
    } else {
      var reach = lanes / 2
      while reach > 0 {
        let other = "__shfl_xor_sync(0xffffffffu, t, \(reach))"
        lines.append(isMaximum ? "      t = larger(t, \(other));" : "      t += \(other);")
        reach /= 2
      }
      lines.append("      \(name(job.to, k)) = t;")
    }
    lines.append("    }")
    return lines
  }

  /// Writes a block's part of a sum over rows.
  func finish(_ sum: Int) -> [String] {
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
