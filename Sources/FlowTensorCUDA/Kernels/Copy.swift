import FlowTensor

extension KernelTable {
  static func copy(_ op: StridedCopy, _ x: Operand, _ y: Operand) -> Work? {
    let pattern = Pattern(shape: y.shape, strides: op.strides, offset: op.offset)
    if let work = transposed(pattern, x, y) { return work }
    let last = pattern.shape.count - 1
    let isRun = pattern.strides[last] == 1
    let sizes = isRun ? pattern.strides.dropLast() + [pattern.shape[last]] : [1]
    guard let access = Access(from: x, at: pattern.offset, to: y, sizes) else { return nil }
    let n = access.elements
    var axes: [UInt64] = []
    for (axis, (length, stride)) in zip(pattern.shape, pattern.strides).enumerated() {
      let isLast = axis == last
      axes.append(UInt64(isLast ? length / n : length))
      axes.append(UInt64(bitPattern: Int64(isLast ? stride : stride / n)))
    }
    let count = y.count / n
    return Work(launches: [
      access.launch(
        "copy_strided", count,
        [
          y.argument, .address(x.address + UInt64(pattern.offset * x.dtype.size)), .table(axes),
          .int(Int32(last + 1)), .long(Int64(count)),
        ])
    ])
  }

  /// Where another axis than the result's last is the input's last, and both are long enough for a tile to pay.
  private static func transposed(_ pattern: Pattern, _ x: Operand, _ y: Operand) -> Work? {
    let last = pattern.shape.count - 1
    let (wide, step) = (pattern.shape[last], pattern.strides[last])
    guard step != 0, step != 1, wide >= 8,
      let axis = pattern.strides.indices.dropLast().first(where: {
        pattern.strides[$0] == 1 && pattern.shape[$0] >= 8
      })
    else { return nil }
    let deep = pattern.shape[axis]
    func ahead(_ axis: Int) -> Int { pattern.shape[(axis + 1)...].reduce(1, *) }
    var axes: [UInt64] = []
    var sizes = [deep, wide, step, ahead(axis), pattern.offset]
    var tiles = ((wide + 63) / 64) * ((deep + 63) / 64)
    for other in 0..<last where other != axis {
      let (length, stride) = (pattern.shape[other], pattern.strides[other])
      axes += [UInt64(length), UInt64(bitPattern: Int64(stride)), UInt64(ahead(other))]
      sizes += [stride, ahead(other)]
      tiles *= length
    }
    guard let single = Access(from: x, at: pattern.offset, to: y, [1]) else { return nil }
    // Bytes of one element, as a type of their size.
    let isHalves =
      x.dtype == y.dtype && x.dtype.size == 2 && sizes.allSatisfy { $0 % 2 == 0 }
      && (x.address | y.address) % 4 == 0
    let kernel =
      isHalves
      ? Kernel("transpose", "transpose_halves", ["IN=u16", "OUT=u16", "HALVES"])
      : Kernel("transpose", "transpose", single.defines)
    return Work(launches: [
      Launch(
        kernel, grid: (tiles, 1, 1), threads: 256,
        [
          y.argument, .address(x.address + UInt64(pattern.offset * x.dtype.size)),
          .table(axes.isEmpty ? [0] : axes), .int(Int32(axes.count / 3)), .long(Int64(deep)),
          .long(Int64(wide)), .long(Int64(step)), .long(Int64(ahead(axis))),
        ])
    ])
  }
}
