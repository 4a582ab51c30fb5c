import FlowTensor

/// Rows of a fused group whose halves are exchanged.
extension FusedSource {
  /// Whether each thread has one access of a row that lies within a warp.
  var turnsInWarp: Bool { lanes <= 32 && held == vector }

  /// Each element from where its pair's other one is: another lane, or the row in shared memory.
  func turn(_ job: RowProgram.Instruction) -> [String] {
    let half = program.width / 2
    let each = "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++)"
    let declaration = "    float r\(job.to)[\(held)];"
    if turnsInWarp {
      let step = half / vector
      let from = "lane < \(step) ? lane + \(step) : lane - \(step)"
      return [
        declaration,
        each + " r\(job.to)[e] = __shfl_sync(0xffffffffu, r\(job.a)[e], \(from), \(lanes));",
        "    if (lane < \(step)) {" + each + " r\(job.to)[e] = -r\(job.to)[e]; }",
      ]
    }
    let row = "turned[group_row * \(program.width) + "
    return [
      declaration, "    __syncthreads();",
      each + " if (\(position) < \(program.width)) \(row)\(position)] = r\(job.a)[e];",
      "    __syncthreads();",
      each + " {", "      const int at = \(position);",
      "      r\(job.to)[e] = at < \(half) ? -\(row)at + \(half)] : at < \(program.width) ? \(row)at - \(half)] : 0.0f;",
      "    }",
    ]
  }
}
