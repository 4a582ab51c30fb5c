import FlowTensor

extension KernelTable {
  /// Ops that move elements as they are.
  static func move(_ op: any Op, _ c: StepContext) -> Work? {
    guard moveStorage(op) != nil else { return nil }
    let (x, y) = (c.inputs[0], c.outputs[0])
    switch op {
    case is Cast: return cast(x, y)
    case let op as StridedCopy: return copy(op, x, y)
    case let op as Concatenate: return concatenate(op, c)
    case let op as Pad:
      // An inner block moves as a whole: a pad of `before` rows is one of `before · inner` elements.
      let inner = x.shape[(op.axis + 1)...].reduce(1, *)
      let (length, before) = (x.shape[op.axis] * inner, op.before * inner)
      let wide = length + before + op.after * inner
      return moved("pad", x, y, by: op.mode == .zero ? [length, before, wide] : [1]) { n in
        [
          x.argument, .long(Int64(length / n)), .long(Int64(before / n)), .long(Int64(wide / n)),
          .int(op.mode.rawValue),
        ]
      }
    case let op as Frame:
      let (length, frames) = (x.shape[x.shape.count - 1], y.shape[y.shape.count - 2])
      return moved("frame", x, y, by: [op.window, frames > 1 ? op.hop : 0, x.count > length ? length : 0]) {
        [
          x.argument, .long(Int64(length / $0)), .long(Int64(frames)), .long(Int64(op.window / $0)),
          .long(Int64(op.hop / $0)),
        ]
      }
    case let op as PutRows: return putRows(op, c)
    case is Gather:
      guard c.inputs[1].dtype == .int32 else { return nil }
      return moved("gather", x, y, by: [x.shape[1]]) {
        [x.argument, c.inputs[1].argument, .long(Int64(x.shape[0])), .long(Int64(x.shape[1] / $0))]
      }
    default: return nil
    }
  }

  static func moveStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Cast, is StridedCopy, is Pad, is Frame, is Gather: ([0], [0])
    case is Concatenate: (Array(0..<1024), [0])
    case is PutRows: ([], [])
    default: nil
    }
  }

  /// A launch of move.cu over the result's elements. `arguments` are those between the result and the count, for accesses of
  /// so many elements, which divide `sizes`.
  private static func moved(
    _ entry: String, _ x: Operand, _ y: Operand, by sizes: [Int], _ arguments: (Int) -> [Argument]
  ) -> Work? {
    guard let access = Access(from: x, at: 0, to: y, sizes) else { return nil }
    let count = y.count / access.elements
    return Work(launches: [
      access.launch(entry, count, [y.argument] + arguments(access.elements) + [.long(Int64(count))])
    ])
  }

  private static func putRows(_ op: PutRows, _ c: StepContext) -> Work? {
    let (x, rows, y) = (c.inputs[0], c.inputs[1], c.outputs[0])
    let inner = x.shape[(op.axis + 1)...].reduce(1, *)
    let (total, run) = (x.shape[op.axis] * inner, rows.shape[op.axis] * inner)
    guard x.dtype == y.dtype, let access = Access(from: rows, at: 0, to: y, [inner]) else { return nil }
    var work = Work(launches: [])
    if x.address != y.address {
      guard let whole = Access(from: x, at: 0, to: y, [y.count]) else { return nil }
      let count = y.count / whole.elements
      work.launches.append(
        whole.launch(
          "copy_strided", count,
          [y.argument, x.argument, .table([UInt64(count), 1]), .int(1), .long(Int64(count))]))
    }
    guard rows.count > 0 else { return work }
    let (n, count) = (access.elements, rows.count / access.elements)
    work.launches.append(
      access.launch(
        "put_rows", count,
        [
          y.argument, rows.argument, c.inputs[2].argument, .long(Int64(inner / n)),
          .long(Int64(x.shape[op.axis] - rows.shape[op.axis])), .long(Int64(run / n)),
          .long(Int64(total / n)),
          .long(Int64(count)),
        ]))
    return work
  }

  private static func cast(_ x: Operand, _ y: Operand) -> Work? {
    let codes: [DType] = [.float32, .bfloat16, .float16, .int32, .bool]
    guard let from = codes.firstIndex(of: x.dtype), let to = codes.firstIndex(of: y.dtype) else { return nil }
    let wide = x.isAligned && y.isAligned
    return Work(launches: [
      Launch(
        Kernel("cast", "cast", ["FROM=\(from)", "TO=\(to)"]), count: y.count, each: wide ? 4096 : 1024,
        threads: 256, [y.argument, x.argument, .long(Int64(y.count)), .int(wide ? 1 : 0)])
    ])
  }

  private static func concatenate(_ op: Concatenate, _ c: StepContext) -> Work? {
    let y = c.outputs[0]
    let rows = y.shape[..<op.axis].reduce(1, *)
    let total = y.shape[op.axis...].reduce(1, *)
    var parts: [(x: Operand, start: Int, run: Int)] = []
    var start = 0
    for x in c.inputs {
      let run = x.shape[op.axis...].reduce(1, *)
      if run > 0 { parts.append((x, start, run)) }
      start += run
    }
    // One launch for all that are of a type.
    let isOne = parts.allSatisfy { $0.x.dtype == parts[0].x.dtype }
    var work = Work(launches: [])
    for group in isOne ? [parts[...]] : parts.indices.map({ parts[$0...$0] }) {
      guard let first = group.first, let last = group.last else { continue }
      let accesses = group.map { Access(from: $0.x, at: 0, to: y, [$0.run, $0.start, total]) }
      // What suits the least suits all.
      guard var access = accesses[0] else { return nil }
      for other in accesses {
        guard let other else { return nil }
        if other.elements < access.elements { access = other }
      }
      let n = access.elements
      let pieces = group.flatMap {
        [$0.x.address, UInt64(($0.start - first.start) / n), UInt64($0.run / n)]
      }
      let width = (last.start + last.run - first.start) / n
      work.launches.append(
        access.launch(
          "concatenate", rows * width,
          [
            y.argument, .table(pieces), .int(Int32(group.count)), .long(Int64(width)),
            .long(Int64(total / n)),
            .long(Int64(first.start / n)), .long(Int64(rows * width)),
          ]))
    }
    return work
  }
}

/// How many elements an access moves, and what it reads and writes them as.
struct Access {
  let elements: Int
  let input: String
  let output: String

  /// The widest access, of 16 bytes at most, that divides `sizes` and that the addresses of `y` and of `x` at element
  /// `offset` allow; `nil` where elements of these types can't be moved.
  init?(from x: Operand, at offset: Int, to y: Operand, _ sizes: [Int]) {
    let from = x.address + UInt64(offset * x.dtype.size)
    func allows(_ n: Int) -> Bool {
      sizes.allSatisfy { $0 % n == 0 } && from % UInt64(n * x.dtype.size) == 0
        && y.address % UInt64(n * y.dtype.size) == 0
    }
    if x.dtype == y.dtype {
      let types = [(16, "Quad"), (8, "Pair"), (4, "u32"), (2, "u16"), (1, "u8")]
      let size = x.dtype.size
      guard let (bytes, type) = types.first(where: { $0.0 >= size && allows($0.0 / size) }) else {
        return nil
      }
      (elements, input, output) = (bytes / size, type, type)
    } else {
      guard x.isNumbers, y.isNumbers else { return nil }
      let wide = allows(4)
      elements = wide ? 4 : 1
      input = wide ? (x.dtype == .float32 ? "Quad" : "Pair") : x.cType
      output = wide ? (y.dtype == .float32 ? "Quad" : "Pair") : y.cType
    }
  }

  var defines: [String] { ["IN=\(input)", "OUT=\(output)"] }

  /// The launch of an entry of move.cu for `count` accesses.
  func launch(_ entry: String, _ count: Int, _ arguments: [Argument]) -> Launch {
    Launch(
      Kernel("move", entry, defines + [KernelTable.index(count)]), count: count, each: 1024, threads: 256,
      arguments)
  }
}

extension KernelTable {
  /// The definition of the integer type that indices below `count` want.
  static func index(_ count: Int) -> String { count < 1 << 31 ? "I=u32" : "I=i64" }
}
