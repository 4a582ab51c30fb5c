import FlowTensor

/// A convolution of images; one of rows is that of images of one row.
struct ConvolutionTask {
  /// What is computed: the convolution, its transpose in x, or its gradient in the weight.
  enum Kind: Int { case forward, back, weight }

  let kind: Kind
  let batch: Int, channels: Int, outputs: Int, groups: Int
  /// Rows and columns: of the image, of the convolution's result, and of the taps.
  let image: [Int], result: [Int], taps: [Int]
  let stride: [Int], padding: [Int], dilation: [Int]

  /// `nil` for other ops.
  init?(_ op: any Op, _ c: StepContext) {
    guard c.inputs.count == 2, c.outputs.count == 1 else { return nil }
    let (first, second, output) = (c.inputs[0].shape, c.inputs[1].shape, c.outputs[0].shape)
    let (x, w, y): ([Int], [Int], [Int])
    let pairs: (stride: [Int], padding: [Int], dilation: [Int])
    func pair(_ g: ConvolutionShape) -> (stride: [Int], padding: [Int], dilation: [Int]) {
      ([1, g.stride], [0, g.padding], [1, g.dilation])
    }
    func pair(_ g: ConvolutionShape2D) -> (stride: [Int], padding: [Int], dilation: [Int]) {
      (g.stride, g.padding, g.dilation)
    }
    switch op {
    case let op as Convolve: (kind, groups, pairs) = (.forward, 1, pair(op.geometry))
    case let op as ConvolveBack: (kind, groups, pairs) = (.back, 1, pair(op.geometry))
    case let op as ConvolveWeight: (kind, groups, pairs) = (.weight, 1, pair(op.geometry))
    case let op as Convolve2D: (kind, groups, pairs) = (.forward, op.geometry.groups, pair(op.geometry))
    case let op as Convolve2DBack: (kind, groups, pairs) = (.back, op.geometry.groups, pair(op.geometry))
    case let op as Convolve2DWeight: (kind, groups, pairs) = (.weight, op.geometry.groups, pair(op.geometry))
    default: return nil
    }
    switch kind {
    case .forward: (x, w, y) = (first, second, output)
    case .back: (x, w, y) = (output, second, first)
    case .weight: (x, w, y) = (first, output, second)
    }
    (batch, channels, outputs) = (x[0], x[1], y[1])
    func size(_ shape: [Int]) -> [Int] { shape.count == 3 ? [1, shape[2]] : [shape[2], shape[3]] }
    (image, result, taps) = (size(x), size(y), size(w))
    (stride, padding, dilation) = pairs
    // Places are counted in 32 bits, with room for what padding and taps add.
    for axis in 0..<2 {
      let reach: Int = dilation[axis] * taps[axis] + stride[axis] + 2 * padding[axis]
      guard reach + image[axis] < 1 << 29, result[axis] < 1 << 29 else { return nil }
    }
    guard area(image) < 1 << 31, area(result) < 1 << 31, area(taps) < 1 << 31 else {
      return nil
    }
  }

  func area(_ size: [Int]) -> Int { size[0] * size[1] }
}

extension KernelTable {
  static func convolutionStorage(_ op: any Op) -> Storage? {
    switch op {
    case is Convolve, is ConvolveBack, is Convolve2D, is Convolve2DBack: ([0, 1], [0])
    // What is added up for a weight stays in float32.
    case is ConvolveWeight, is Convolve2DWeight: ([0, 1], [])
    default: nil
    }
  }

  /// Convolutions of one and two dimensions, their transposes, and their gradients in the weight.
  static func convolution(_ op: any Op, _ c: StepContext) -> Work? {
    guard let task = ConvolutionTask(op, c),
      (c.inputs + c.outputs).allSatisfy({ $0.dtype == .float32 || $0.dtype == .bfloat16 })
    else { return nil }
    return nearConvolution(task, c) ?? wideConvolution(task, c) ?? wideWeight(task, c)
      ?? gatheredConvolution(task, c)
  }

  /// y of `splits` parts at the start of the scratch memory.
  static func sumSplits(to y: Operand, splits: Int) -> Launch {
    Launch(
      Kernel("splits", "sum_splits", ["T2=\(y.cType)"]), count: y.count, each: 256, threads: 256,
      [y.argument, .scratch(0), .long(Int64(y.count)), .int(Int32(splits))])
  }

  /// Whether products may be of bfloat16: a step of a float32 program has none.
  static func isBrief(_ c: StepContext) -> Bool { (c.inputs + c.outputs).contains { $0.dtype == .bfloat16 } }

  /// Any geometry: the image is gathered as it's needed.
  private static func gatheredConvolution(_ task: ConvolutionTask, _ c: StepContext) -> Work? {
    let (inner, outer) = (task.channels / task.groups, task.outputs / task.groups)
    let taps = task.area(task.taps)
    let (m, n, terms) =
      switch task.kind {
      case .forward: (outer, task.batch * task.area(task.result), inner * taps)
      case .back: (inner, task.batch * task.area(task.image), outer * taps)
      case .weight: (outer, inner * taps, task.batch * task.area(task.result))
      }
    let brief = isBrief(c)
    let tileM = brief ? ([16, 32, 64].first { m <= $0 } ?? 128) : m <= 4 ? 4 : m <= 16 ? 16 : 64
    let tileN = brief ? 128 : 4096 / tileM
    let grid = (ceil(n, tileN), ceil(m, tileM))
    guard grid.0 < 1 << 31, grid.1 < 1 << 16, task.groups < 1 << 15 else { return nil }
    // Enough blocks for the device, each with at least a few tiles of terms to add up.
    let blocks = grid.0 * grid.1 * task.groups
    let wanted = blocks >= 2 * c.multiprocessors ? 1 : ceil(4 * c.multiprocessors, blocks)
    let room = max(1, (1 << 28) / max(1, 4 * c.outputs[0].count))
    let splits = max(1, min(wanted, terms / 128, room, 512, 65535 / task.groups))
    let defines =
      [
        "MODE=\(task.kind.rawValue)", "MMA=\(brief ? 1 : 0)", "TILE_M=\(tileM)",
        "INDEX=\(max(n, terms) < 1 << 31 ? "u32" : "u64")",
      ]
      + [c.inputs[0], c.inputs[1], c.outputs[0]].enumerated().map { "T\($0.offset)=\($0.element.cType)" }
    let shape =
      [task.batch, task.channels] + task.image + [task.outputs] + task.result + task.taps + task.stride
      + task.padding + task.dilation + [task.groups, splits]
    let launch = Launch(
      Kernel("convolution", "convolution", defines), grid: (grid.0, grid.1, task.groups * splits),
      threads: 256,
      [c.outputs[0].argument, .scratch(0), c.inputs[0].argument, c.inputs[1].argument]
        + shape.map { .int(Int32($0)) })
    if splits == 1 { return Work(launches: [launch]) }
    return Work(
      launches: [launch, sumSplits(to: c.outputs[0], splits: splits)],
      scratch: splits * c.outputs[0].count * 4)
  }

  static func ceil(_ count: Int, _ size: Int) -> Int { (count + size - 1) / size }
}
