import FlowTensor

extension KernelTable {
  static func attentionStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Attention: ([0, 1, 2], [0])
    case is AttentionBack: ([0, 1, 2, 4, 6], [0, 1, 2])
    default: nil
    }
  }

  /// `Attention` and `AttentionBack`. `summary` is where `maskSummary` has been; `nil` makes it in the step's scratch.
  static func attention(_ op: any Op, _ c: StepContext, summary: UInt64? = nil) -> Work? {
    switch op {
    case let op as Attention:
      let c = turned(c, op.turned)
      return AttentionStep(c, scale: op.scale, output: c.outputs[0])?.forward(c, summary)
    case let op as AttentionBack:
      let c = turned(c, op.turned)
      return AttentionStep(c, scale: op.scale, output: c.inputs[4])?.backward(c, summary)
    default: return nil
    }
  }

  private static func turned(_ c: StepContext, _ values: TurnedValues) -> StepContext {
    var (inputs, outputs) = (c.inputs, c.outputs)
    for index in values.inputs { inputs[index].isTurned = true }
    for index in values.outputs { outputs[index].isTurned = true }
    return StepContext(
      inputs: inputs, outputs: outputs, multiprocessors: c.multiprocessors, capability: c.capability,
      leastTried: c.leastTried)
  }

  /// What attention reads of the mask [B or 1, H or 1, N, M], written at `base`, or without one in scratch memory; of
  /// `MaskSummary(mask.shape).bytes`. Steps with the same mask may share it.
  static func maskSummary(mask: Operand, at base: UInt64? = nil) -> Work {
    let layout = MaskSummary(mask.shape)
    var launches: [Launch] = []
    let kinds = place(layout.kinds, base)
    if mask.count > 0 {
      launches.append(
        Launch(
          Kernel("attention-mask", "mask_tiles"), grid: (layout.columnTiles, layout.rowTiles, layout.masks),
          threads: 256,
          [mask.argument, place(layout.bits.rows, base), place(layout.bits.columns, base), kinds]
            + [mask.shape[2], mask.shape[3]].map { .int(Int32($0)) }))
    }
    let sizes = [
      layout.masks, layout.rowTiles, layout.columnTiles, MaskSummary.groups.rows, MaskSummary.groups.columns,
    ]
    launches.append(
      Launch(
        Kernel("attention-mask", "mask_lists"), count: layout.listCount, each: 128, threads: 128,
        [kinds, place(layout.lists.rows, base)] + sizes.map { .int(Int32($0)) }))
    return Work(launches: launches, scratch: base == nil ? layout.bytes : 0)
  }

  fileprivate static func place(_ offset: Int, _ base: UInt64?) -> Argument {
    if let base { .address(base + UInt64(offset)) } else { .scratch(offset) }
  }
}

/// Where the parts of a mask's summary lie: see attention-mask.cu.
struct MaskSummary {
  /// How many tiles of queries, or of keys, a block has on Hopper: what the registers of a multiprocessor hold.
  static let groups = (rows: 2, columns: 2)

  let masks: Int
  let rowTiles: Int
  let columnTiles: Int
  let bits: (rows: Int, columns: Int)
  let lists: (rows: Int, columns: Int, rowGroups: Int, columnGroups: Int)
  let listCount: Int
  let kinds: Int
  /// Of all parts.
  let bytes: Int

  /// Of a mask of this shape.
  init(_ shape: [Int]) {
    let (n, m) = (shape[2], shape[3])
    masks = shape[0] * shape[1]
    rowTiles = (n + 63) / 64
    columnTiles = (m + 63) / 64
    var end = 0
    func part(_ bytes: Int) -> Int {
      defer { end += bytes }
      return end
    }
    bits = (part(masks * n * columnTiles * 8), part(masks * m * rowTiles * 8))
    let rowGroups = (rowTiles + MaskSummary.groups.rows - 1) / MaskSummary.groups.rows
    let columnGroups = (columnTiles + MaskSummary.groups.columns - 1) / MaskSummary.groups.columns
    lists = (
      part(masks * rowTiles * (columnTiles + 1) * 4), part(masks * columnTiles * (rowTiles + 1) * 4),
      part(masks * rowGroups * (columnTiles + 1) * 4), part(masks * columnGroups * (rowTiles + 1) * 4)
    )
    listCount = masks * (rowTiles + columnTiles + rowGroups + columnGroups)
    kinds = part(masks * rowTiles * columnTiles)
    bytes = (end + 255) / 256 * 256
  }
}

/// The launches of attention for a step's shapes and types.
private struct AttentionStep {
  let q: Operand
  let k: Operand
  let v: Operand
  let mask: Operand
  let output: Operand
  let scale: Float
  let capability: Int
  /// Batch, heads, queries, keys, width.
  let (b, h, n, m, d): (Int, Int, Int, Int, Int)

  init?(_ c: StepContext, scale: Float, output: Operand) {
    (q, k, v, mask) = (c.inputs[0], c.inputs[1], c.inputs[2], c.inputs[3])
    (b, h, n, m, d) = (q.shape[0], q.shape[1], q.shape[2], k.shape[2], q.shape[3])
    self.output = output
    self.scale = scale
    capability = c.capability
    let all = [q, k, v, output] + c.outputs + c.inputs.dropFirst(4)
    // Blocks along y and z.
    guard b < 65536, h < 65536, mask.dtype == .bool,
      all.allSatisfy({ $0.dtype == .float32 || $0.dtype == .bfloat16 })
    else { return nil }
  }

  /// Whether the tensor cores' kernels take operands `all`.
  func isTiled(_ all: [Operand]) -> Bool {
    d % 16 == 0 && d <= 128 && scale > 0 && max(rowTiles, columnTiles) < 65536
      && all.allSatisfy { $0.dtype == .bfloat16 }
  }
  var rowTiles: Int { (n + 63) / 64 }
  var columnTiles: Int { (m + 63) / 64 }
  /// Bytes of 64 rows in shared memory.
  var tileBytes: Int { (d + 63) / 64 * 8192 }
  /// Whether Hopper's own instructions are taken.
  var isHopper: Bool { capability == 90 && d > 32 }
  /// Tiles that the copy engine may be ahead by, and the shared memory of a kernel that has as many and `own` besides.
  static let slots = 8
  func bulkMemory(own: Int, more: Int = 0) -> Int {
    (own + AttentionStep.slots) * tileBytes + more + (2 * AttentionStep.slots + 3) * 8 + AttentionStep.slots
      * 2
  }
  func matrix(_ x: Operand) -> Argument {
    let (tokens, batch) = (x.shape[2], h * x.shape[2] * d)
    return .matrix(
      BulkMatrix(
        address: x.address, sizes: [d, tokens, h, b],
        strides: x.isTurned ? [h * d, d, batch] : [d, tokens * d, batch]))
  }
  /// The tensor cores' kernels fill narrower heads up with zeros.
  var defines: [String] { ["WIDTH=\(d)", "D=\([16, 32, 64].first { $0 >= d } ?? 128)"] }
  /// Hopper's.
  func defines(groups: Int) -> [String] {
    defines + ["GROUPS=\(groups)", "SLOTS=\(AttentionStep.slots)", "FLOW_SM90A"]
  }
  /// Blocks per 64 rows of the float32 kernels.
  var parts: Int { (d + 63) / 64 }

  /// The steps in elements from one batch, head and token to the next.
  func strides(_ x: Operand) -> [Argument] {
    let batch = h * x.shape[2] * d
    return (x.isTurned ? [batch, d, h * d] : [batch, x.shape[2] * d, d]).map { .long(Int64($0)) }
  }
  /// Scale, sizes, and the mask's steps.
  func numbers(isTiled: Bool) -> [Argument] {
    let heads = mask.shape[1]
    let maskSteps = [mask.shape[0] == 1 ? 0 : heads, heads == 1 ? 0 : 1]
    return [.float(scale)] + ([n, m] + (isTiled ? [] : [d]) + maskSteps).map { .int(Int32($0)) }
  }
  /// Defines of element types.
  static func types(_ names: [String], _ operands: [Operand]) -> [String] {
    zip(names, operands).map { "\($0)=\($1.cType)" }
  }

  func forward(_ c: StepContext, _ summary: UInt64?) -> Work {
    var work = summary == nil ? KernelTable.maskSummary(mask: mask) : Work(launches: [])
    let layout = MaskSummary(mask.shape)
    let isTiled = isTiled([q, k, v])
    let groups = isTiled && isHopper ? MaskSummary.groups.rows : 1
    let arguments =
      [q, k, v, output, c.outputs[1]].map(\.argument)
      + [layout.bits.rows, groups > 1 ? layout.lists.rowGroups : layout.lists.rows].map {
        KernelTable.place($0, summary)
      }
      + numbers(isTiled: isTiled) + [q, k, v, output].flatMap(strides)
    if isTiled && isHopper {
      let kernel = Kernel(
        "attention-bulk", "attention_bulk",
        defines(groups: groups) + ["TO=\(output.cType)"])
      work.launches.append(
        Launch(
          kernel, grid: (h, (rowTiles + groups - 1) / groups, b), threads: 128 * groups + 128,
          shared: bulkMemory(own: groups),
          [q, k, v].map(matrix) + arguments[3..<7 + numbers(isTiled: true).count] + strides(output)))
    } else if isTiled {
      let kernel = Kernel("attention", "attention", defines + ["TO=\(output.cType)"])
      // Queries, and two stages of keys and values.
      work.launches.append(
        Launch(kernel, grid: (h, rowTiles, b), threads: 128, shared: 5 * tileBytes, arguments))
    } else {
      let kernel = Kernel(
        "attention-float", "attention_float",
        ["FORWARD"] + AttentionStep.types(["TQ", "TK", "TV", "TO"], [q, k, v, output]))
      work.launches.append(Launch(kernel, grid: (rowTiles * parts, h, b), threads: 256, arguments))
    }
    return work
  }

  func backward(_ c: StepContext, _ summary: UInt64?) -> Work {
    var work = summary == nil ? KernelTable.maskSummary(mask: mask) : Work(launches: [])
    let layout = MaskSummary(mask.shape)
    let (g, dq, dk, dv) = (c.inputs[6], c.outputs[0], c.outputs[1], c.outputs[2])
    let isTiled = isTiled([q, k, v, g]) && dq.dtype == dk.dtype && dq.dtype == dv.dtype
    let queries = Argument.scratch(work.scratch)
    work.scratch += b * h * rowTiles * 64 * 8
    if n > 0 {
      let kernel = Kernel(
        "attention-numbers", "attention_numbers",
        AttentionStep.types(["TR", "TG"], [output, g]) + ["WIDE=\(d % 4 == 0 ? 4 : 1)"])
      work.launches.append(
        Launch(
          kernel, grid: (rowTiles * 8, h, b), threads: 256,
          [output, g, c.inputs[5]].map(\.argument) + [queries, .int(Int32(n)), .int(Int32(d))]
            + strides(output) + strides(g)))
    }
    for isOfKeys in [true, false] where (isOfKeys ? m : n) > 0 {
      let results = isOfKeys ? [dk, dv] : [dq]
      let groups = !isTiled || !isHopper ? 1 : isOfKeys ? MaskSummary.groups.columns : MaskSummary.groups.rows
      let list =
        groups == 1
        ? (isOfKeys ? layout.lists.columns : layout.lists.rows)
        : (isOfKeys ? layout.lists.columnGroups : layout.lists.rowGroups)
      let arguments =
        [q, k, v, g].map(\.argument) + [queries] + results.map(\.argument)
        + [isOfKeys ? layout.bits.columns : layout.bits.rows, list].map { KernelTable.place($0, summary) }
        + numbers(isTiled: isTiled) + ([q, k, v, g] + results).flatMap(strides)
      let tiles = isOfKeys ? columnTiles : rowTiles
      let entry = isOfKeys ? "back_keys" : "back_queries"
      if isTiled && isHopper {
        let kernel = Kernel(
          "attention-back-bulk", "attention_\(entry)_bulk",
          defines(groups: groups) + ["TG=\(dq.cType)", "OF_KEYS=\(isOfKeys ? 1 : 0)"])
        work.launches.append(
          Launch(
            kernel, grid: (h, (tiles + groups - 1) / groups, b), threads: 128 * groups + 128,
            shared: bulkMemory(own: 2 * groups, more: AttentionStep.slots / 2 * 512),
            [q, k, v, g].map(matrix) + arguments[4..<arguments.count - 3 * (4 + results.count)]
              + results.flatMap(strides)))
      } else if isTiled {
        let kernel = Kernel(
          "attention-back", "attention_\(entry)",
          defines + ["TG=\(dq.cType)", "OF_KEYS=\(isOfKeys ? 1 : 0)"])
        // Two tiles that stay, two stages of two that walk past; with keys, the walking queries' numbers.
        work.launches.append(
          Launch(
            kernel, grid: (h, tiles, b), threads: 128, shared: 6 * tileBytes + (isOfKeys ? 1024 : 0),
            arguments))
      } else {
        let kernel = Kernel(
          "attention-float", "attention_float_\(entry)",
          AttentionStep.types(["TQ", "TK", "TV", "TG", "TDQ", "TDK", "TDV"], [q, k, v, g, dq, dk, dv]))
        work.launches.append(Launch(kernel, grid: (tiles * parts, h, b), threads: 256, arguments))
      }
    }
    return work
  }
}
