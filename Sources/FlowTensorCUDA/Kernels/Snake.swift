import FlowTensor

extension KernelTable {
  static func snakeStorage(_ op: any Op) -> Storage? {
    switch op {
    case is AliasFreeSnake: ([0], [0])
    // The sums for alpha and beta stay in float32.
    case is AliasFreeSnakeBack: ([0, 1], [0])
    default: nil
    }
  }

  /// The alias-free snake and its gradients.
  static func snake(_ op: any Op, _ c: StepContext) -> Work? {
    let isBack = op is AliasFreeSnakeBack
    guard let logScale = (op as? AliasFreeSnake)?.logScale ?? (op as? AliasFreeSnakeBack)?.logScale else {
      return nil
    }
    // Forward: x, alpha, beta; backward: g, x, alpha, beta.
    let streams = Array(c.inputs.dropLast(2)) + [c.outputs[0]]
    let rates = Array(c.inputs.suffix(2)) + c.outputs.dropFirst()
    guard streams.allSatisfy({ $0.dtype == .float32 || $0.dtype == .bfloat16 }),
      rates.allSatisfy({ $0.dtype == .float32 })
    else { return nil }
    let shape = c.outputs[0].shape
    let (rows, channels, length) = (shape[0] * shape[1], shape[1], shape[2])
    guard length > 0 else {
      // Sums over nothing.
      return Work(launches: c.outputs.dropFirst().map { sumSplits(to: $0, splits: 0) })
    }
    guard length < 1 << 30 else { return nil }
    let vectors = length % 8 == 0 && streams.allSatisfy { $0.address % 16 == 0 }
    let precise = streams.contains { $0.dtype == .float32 }
    let types = [c.inputs[0], c.inputs[isBack ? 1 : 0], c.outputs[0]].map(\.cType)
    let defines =
      types.enumerated().map { "T\($0.offset)=\($0.element)" } + [
        "VECTORS=\(vectors ? 1 : 0)", "PRECISE=\(precise ? 1 : 0)",
      ]
    // On the tensor cores, in stretches of 64 samples that have 16 before them and 8 behind.
    let segments = vectors && streams.allSatisfy { $0.dtype == .bfloat16 } ? max(0, (length - 24) / 64) : 0
    func kernel(_ entry: String) -> Kernel {
      segments > 0
        ? Kernel("snake-tiles", entry + "_tiles", defines) : Kernel("snake", entry, defines)
    }
    let filter = AliasFreeSnake.filter.map { Argument.float($0) }
    let log = Argument.int(logScale ? 1 : 0)
    let runs = (length - 64 * segments + 15) / 16
    let edges = (rows * runs + 127) / 128
    let tiles = edges + (rows * segments + 63) / 64
    let split = [segments, edges].map { Argument.int(Int32($0)) }
    if !isBack {
      let arguments =
        [c.outputs[0], c.inputs[0], c.inputs[1], c.inputs[2]].map(\.argument)
        + [.long(Int64(rows)), .int(Int32(channels)), .int(Int32(length))] + (segments > 0 ? split : []) + [
          log
        ] + filter
      if segments > 0 {
        return Work(launches: [Launch(kernel("snake"), grid: (tiles, 1, 1), threads: 128, arguments)])
      }
      return Work(launches: [Launch(kernel("snake"), count: rows * runs, each: 128, threads: 128, arguments)])
    }
    let threads = min(128, (runs + 31) / 32 * 32)
    let stretches = segments > 0 ? runs + segments : (runs + threads - 1) / threads
    let (alpha, beta) = (c.inputs[2].argument, c.inputs[3].argument)
    let back: [Argument] =
      [c.outputs[0].argument, .scratch(0), c.inputs[0].argument, c.inputs[1].argument, alpha, beta]
      + (segments > 0 ? [.long(Int64(rows))] : []) + [.int(Int32(channels)), .int(Int32(length))]
      + (segments > 0 ? split : [.int(Int32(stretches))]) + [log] + filter
    let sum: [Argument] = [
      c.outputs[1].argument, c.outputs[2].argument, .scratch(0), alpha, beta, .long(Int64(rows)),
      .int(Int32(channels)), .int(Int32(stretches)), log,
    ]
    let unit = kernel("snake_back")
    var snakeSum = unit
    snakeSum.entry = "snake_sum"
    let launch =
      segments > 0
      ? Launch(unit, grid: (tiles, 1, 1), threads: 128, back)
      : Launch(unit, grid: (rows * stretches, 1, 1), threads: threads, back)
    return Work(
      launches: [
        launch,
        Launch(snakeSum, count: rows, each: 4, threads: 128, sum),
      ], scratch: rows * stretches * 8)
  }
}
