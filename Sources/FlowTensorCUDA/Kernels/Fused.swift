import FlowTensor

extension KernelTable {
  /// A fused group: its own kernel, and one more for each sum over all rows. Its alternatives are other forms of it.
  static func fused(_ op: any Op, _ c: StepContext) -> Work? {
    guard let op = op as? Fused,
      (c.inputs + c.outputs).allSatisfy({ $0.dtype == .float32 || $0.dtype == .bfloat16 })
    else { return nil }
    let usual = FusedSource(op.program, c.inputs, c.outputs)
    guard var work = fused(op, c, usual) else { return nil }
    if c.isTried {
      for form in usual.others {
        let source = FusedSource(op.program, c.inputs, c.outputs, form)
        guard var other = fused(op, c, source) else { continue }
        other.form = form.title
        work.alternatives.append(other)
      }
    }
    return work
  }

  private static func fused(_ op: Fused, _ c: StepContext, _ source: FusedSource) -> Work? {
    var work = Work(launches: [])
    var partials: [Argument] = []
    var finish: [Launch] = []
    for sum in source.sums {
      guard case .output(let output) = op.program.registers[sum].place else { return nil }
      let size = source.partialSize(sum)
      let at = Argument.scratch(work.scratch)
      partials.append(at)
      work.scratch += (source.blocks * size * 4 + 255) / 256 * 256
      finish.append(
        finishSum(to: c.outputs[output].argument, partials: at, parts: source.blocks, width: size))
    }
    let sums = Set(source.sums)
    let written = c.outputs.indices.filter { output in
      op.program.registers.indices.contains {
        op.program.registers[$0].place == .output(output) && !sums.contains($0)
      }
    }
    let arguments = c.inputs.map(\.argument) + written.map { c.outputs[$0].argument } + partials
    let kernel = Kernel(text: source.text, "group")
    work.launches =
      [
        Launch(kernel, grid: (source.blocks, 1, 1), threads: source.threads, arguments)
      ] + finish
    return work
  }

  /// Adds up `parts` rows of `width` floats, in an order that depends on the sizes only.
  static func finishSum(to: Argument, partials: Argument, parts: Int, width: Int) -> Launch {
    let arguments: [Argument] = [to, partials, .int(Int32(parts)), .int(Int32(width))]
    return width == 1
      ? Launch(Kernel("partials", "add_parts"), grid: (1, 1, 1), threads: 256, arguments)
      : Launch(Kernel("partials", "add_rows"), count: width, each: 32, threads: 1024, arguments)
  }
}
