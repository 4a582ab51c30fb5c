import FlowTensor

/// Rows of a fused group whose halves are exchanged.
extension FusedSource {
  /// Whether both halves of each row have the same elements of what lies so.
  func repeatsHalves(_ pattern: Pattern) -> Bool {
    var below = 1
    for axis in pattern.shape.indices.reversed() {
      if below == program.width / 2 { return pattern.shape[axis] % 2 == 0 && pattern.strides[axis] == 0 }
      below *= pattern.shape[axis]
    }
    return false
  }

  /// Whether each thread has one access of a row that lies within a warp.
  var turnsInWarp: Bool { lanes <= 32 && held == vector }

  /// Each element from where its pair's other one is: the thread, another lane, or the row in shared memory.
  func turn(_ job: RowProgram.Instruction, _ k: Int) -> [String] {
    let (from, to) = (name(job.a, k), name(job.to, k))
    let half = program.width / 2
    let each = "    _Pragma(\"unroll\") for (int e = 0; e < \(held); e++)"
    let declaration = "    float \(to)[\(held)];"
    if turnsInThread {
      let pairs = "    _Pragma(\"unroll\") for (int e = 0; e < \(vector); e++)"
      return [
        declaration, pairs + " { \(to)[e] = -\(from)[e + \(vector)]; \(to)[e + \(vector)] = \(from)[e]; }",
      ]
    }
    if turnsInWarp {
      let step = half / vector
      let other = "lane < \(step) ? lane + \(step) : lane - \(step)"
      return [
        declaration,
        each + " \(to)[e] = __shfl_sync(0xffffffffu, \(from)[e], \(other), \(lanes));",
        "    if (lane < \(step)) {" + each + " \(to)[e] = -\(to)[e]; }",
      ]
    }
    let row = "turned[group_row * \(program.width) + "
    return [
      declaration, "    __syncthreads();",
      each + " if (\(position) < \(program.width)) \(row)\(position)] = \(from)[e];",
      "    __syncthreads();",
      each + " {", "      const int at = \(position);",
      "      \(to)[e] = at < \(half) ? -\(row)at + \(half)] : at < \(program.width) ? \(row)at - \(half)] : 0.0f;",
      "    }",
    ]
  }
}
