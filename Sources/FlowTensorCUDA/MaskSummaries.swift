import FlowTensor

/// The summaries of a program's masks, so that the layers with one mask share one.
struct MaskSummaries {
  private struct Summary {
    let mask: Operand
    let buffer: CUDABuffer
    /// Whether the mask's memory still holds it.
    var isTrue = true
    var range: Range<UInt64> { buffer.address..<buffer.address + UInt64(buffer.count * 4) }
  }
  private var summaries: [Summary] = []
  /// Bytes of them.
  var bytes: Int { summaries.reduce(0) { $0 + $1.buffer.count * 4 } }

  /// The launches of attention, and before the first with its mask those that make the summary, which lies in `summary`;
  /// `nil` for another op, or types that no kernel takes.
  mutating func work(
    _ op: any Op, _ c: StepContext, _ device: CUDADevice
  ) throws(TensorError) -> (work: Work, summary: Range<UInt64>, isNew: Bool)? {
    guard op is Attention || op is AttentionBack else { return nil }
    let mask = c.inputs[3]
    let known = summaries.first {
      $0.isTrue && $0.mask.address == mask.address && $0.mask.shape == mask.shape
    }
    if let known {
      guard let work = KernelTable.attention(op, c, summary: known.buffer.address) else { return nil }
      return (work, known.range, false)
    }
    let buffer = try CUDABuffer(device, max(1, MaskSummary(mask.shape).bytes / 4))
    guard var work = KernelTable.attention(op, c, summary: buffer.address) else { return nil }
    work.launches = KernelTable.maskSummary(mask: mask, at: buffer.address).launches + work.launches
    let made = Summary(mask: mask, buffer: buffer)
    summaries.append(made)
    return (work, made.range, true)
  }

  /// A step writes here: masks in that memory are no longer what they were.
  mutating func forget(_ written: [Range<UInt64>]) {
    for range in written {
      for index in summaries.indices where summaries[index].mask.range.overlaps(range) {
        summaries[index].isTrue = false
      }
    }
  }
}
