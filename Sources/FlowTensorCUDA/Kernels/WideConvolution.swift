import FlowTensor

/// The phases of a transposed convolution's result, each a convolution with some of the taps; the convolution itself has
/// one. See `Phase` in wide.cu.
struct Phases {
  private(set) var phases: [Int32] = []
  private(set) var taps: [Int32] = []
  /// Phases, places of the largest of them, and taps of the one with most.
  private(set) var count = 0, places = 0, most = 0
  /// How much further down and right a row's phases' last tap goes than the first, and how many taps they have, at most.
  private(set) var spans = [0, 0], besides = 0

  init(_ task: ConvolutionTask, granules: Int) {
    let isBack = task.kind == .back
    let steps = isBack ? task.stride : [1, 1]
    let size = isBack ? task.image : task.result
    for row in 0..<steps[0] {
      let first = taps.count
      for column in 0..<steps[1] {
        let before = taps.count / 4
        for y in 0..<task.taps[0] {
          for x in 0..<task.taps[1] {
            let (down, right) = (y * task.dilation[0], x * task.dilation[1])
            var shift = [down - task.padding[0], right - task.padding[1]]
            if isBack {
              // Where the input is that this tap brings to the phase's first place, if it falls on one.
              shift = [row - shift[0], column - shift[1]]
              guard shift[0] % steps[0] == 0, shift[1] % steps[1] == 0 else { continue }
              shift = [shift[0] / steps[0], shift[1] / steps[1]]
            }
            let rows = shift[0] * (isBack ? task.result : task.image)[1] + shift[1]
            taps += [shift[0], shift[1], rows * granules, y * task.taps[1] + x].map { Int32($0) }
          }
        }
        let rows = max(0, (size[0] - row + steps[0] - 1) / steps[0])
        let columns = max(0, (size[1] - column + steps[1] - 1) / steps[1])
        let own = taps.count / 4 - before
        phases += [before, own, row, column, rows, columns, 0, 0].map { Int32($0) }
        (places, most, count) = (max(places, rows * columns), max(most, own), count + 1)
      }
      // What the phases beside each other have in common.
      for axis in 0..<2 {
        let shifts = stride(from: first + axis, to: taps.count, by: 4).map { taps[$0] }
        let least = shifts.min() ?? 0
        spans[axis] = max(spans[axis], Int((shifts.max() ?? 0) - least))
        for phase in (row * steps[1])..<((row + 1) * steps[1]) { phases[phase * 8 + 6 + axis] = least }
      }
      besides = max(besides, (taps.count - first) / 4)
    }
  }

  /// As the kernel reads them: ints, two in a word.
  var table: Argument {
    let all = phases + taps
    return .table(
      stride(from: 0, to: all.count, by: 2).map {
        UInt64(UInt32(bitPattern: all[$0])) | UInt64(UInt32(bitPattern: all[$0 + 1])) << 32
      })
  }
}

extension KernelTable {
  /// An operand [batch, channels, places] that becomes bfloat16 [batch, places, whole], `whole` a multiple of 8.
  private struct Turn {
    let x: Operand
    let batch: Int, channels: Int, whole: Int, places: Int

    /// Channels of a tile of 4096 elements.
    var tall: Int { [8, 16, 32].first { whole <= $0 } ?? 64 }
    var bytes: Int { ceil(batch * places * whole * 2, 256) * 256 }
    /// Blocks, where few places may be turned together.
    func blocks(few: Bool) -> Int {
      few && places <= 16
        ? ceil(whole, 512) * batch : ceil(places, 4096 / tall) * ceil(whole, tall) * batch
    }
    func arguments(to: Argument) -> [Argument] {
      let isEven = places % 8 == 0 && x.address % 16 == 0
      return [
        to, x.argument, .int(Int32(channels)), .int(Int32(whole)), .long(Int64(places)), .int(isEven ? 1 : 0),
      ]
    }
  }

  /// Both operands of a convolution with the channels innermost, `whole` of them, in scratch memory from byte `start` on.
  private static func turned(
    _ first: Turn, _ second: Turn, from start: Int
  ) -> (launch: Launch, first: Argument, second: Argument, end: Int) {
    let (blocks, others) = (first.blocks(few: false), second.blocks(few: true))
    let (to, next) = (Argument.scratch(start), Argument.scratch(start + first.bytes))
    let defines = [
      "T0=\(first.x.cType)", "T1=\(second.x.cType)", "TALL0=\(first.tall)", "TALL1=\(second.tall)",
    ]
    let launch = Launch(
      Kernel("channels_last", "channels_last", defines), grid: (blocks + others, 1, 1), threads: 256,
      first.arguments(to: to) + second.arguments(to: next) + [.int(Int32(blocks))])
    return (launch, to, next, start + first.bytes + second.bytes)
  }

  /// The image and the weight of a convolution or a transpose.
  static func turned(
    _ task: ConvolutionTask, _ c: StepContext, whole: Int, from start: Int
  ) -> (launch: Launch, first: Argument, second: Argument, end: Int) {
    let isBack = task.kind == .back
    let (input, output) = isBack ? (task.outputs, task.channels) : (task.channels, task.outputs)
    let (places, taps) = (task.area(isBack ? task.result : task.image), task.area(task.taps))
    let image = Turn(x: c.inputs[0], batch: task.batch, channels: input, whole: whole, places: places)
    // A transpose's weight has its result's channels and the taps innermost.
    let weight = Turn(
      x: c.inputs[1], batch: isBack ? 1 : output, channels: input, whole: whole,
      places: isBack ? output * taps : taps)
    return turned(image, weight, from: start)
  }

  /// Many channels in one group, in bfloat16; `nil` otherwise.
  static func wideConvolution(_ task: ConvolutionTask, _ c: StepContext) -> Work? {
    let isBack = task.kind == .back
    let (input, output) = isBack ? (task.outputs, task.channels) : (task.channels, task.outputs)
    guard task.kind != .weight, isBrief(c), task.groups == 1, input >= 8, task.batch > 0 else { return nil }
    let (from, to) = isBack ? (task.result, task.image) : (task.image, task.result)
    let (granules, taps) = (ceil(input, 8), task.area(task.taps))
    guard task.batch * task.area(from) * granules < 1 << 31, taps * output * granules < 1 << 31,
      taps <= 4096, !isBack || task.area(task.stride) <= 64
    else { return nil }
    let phases = Phases(task, granules: granules)
    guard phases.most <= 32 else { return nil }
    // As few tiles of channels as can be, and of the widths that are compiled the one that fits best.
    let fair = ceil(output, ceil(output, 128))
    let tile = [8, 16, 24, 32, 48, 64, 96].first { fair <= $0 } ?? 128
    let grid = (ceil(output, tile), ceil(task.batch * phases.places, 128))
    guard grid.1 < 1 << 16, grid.0 * tile < 1 << 31 else { return nil }
    let blocks = grid.0 * grid.1 * phases.count
    let steps = granules / 8 * phases.most + ceil(granules % 8 * phases.most, 8)
    let splits = max(1, min(2 * c.multiprocessors / blocks, steps / 4, 8))
    let stages = 3 * (128 + tile) * 128
    let parts = splits > 1 ? ceil(splits * c.outputs[0].count * 4, 256) * 256 : 0
    let ready = turned(task, c, whole: granules * 8, from: parts)
    let numbers =
      [task.batch] + from + [granules, output] + to + [taps, phases.count]
      + (isBack ? [1, 1] + task.stride : task.stride + [1, 1]) + [splits]
    let product = Launch(
      Kernel(
        "wide", "wide",
        ["T2=\(c.outputs[0].cType)", "CHANNELS=\(tile)"] + (c.capability == 90 ? ["FLOW_SM90A"] : [])),
      grid: (grid.0, grid.1, phases.count * splits), threads: 128, shared: max(stages, tile * 136 * 4 + 1024),
      [c.outputs[0].argument, .scratch(0), ready.first, ready.second, phases.table]
        + numbers.map { .int(Int32($0)) })
    var launches = [ready.launch, product]
    if splits > 1 { launches.append(sumSplits(to: c.outputs[0], splits: splits)) }
    return Work(launches: launches, scratch: ready.end)
  }

  /// The gradient in the weight, of one group in bfloat16; `nil` otherwise.
  static func wideWeight(_ task: ConvolutionTask, _ c: StepContext) -> Work? {
    guard task.kind == .weight, isBrief(c), task.groups == 1, task.channels > 0, task.outputs > 0 else {
      return nil
    }
    let (granules, taps) = (ceil(task.channels, 8), task.area(task.taps))
    let places = task.batch * task.area(task.result)
    guard places > 0, places < 1 << 31, task.batch * task.area(task.image) * granules < 1 << 31,
      taps * granules * 8 * task.outputs < 1 << 31
    else { return nil }
    let fair = ceil(task.outputs, ceil(task.outputs, 128))
    let tile = [16, 32, 48, 64, 96].first { fair <= $0 } ?? 128
    let grid = (ceil(taps * granules, 16), ceil(task.outputs, tile))
    guard grid.1 < 1 << 16 else { return nil }
    let size = task.outputs * taps * granules * 8
    let room = max(1, (1 << 27) / (4 * size))
    let splits = max(1, min(2 * c.multiprocessors / (grid.0 * grid.1), ceil(places, 64) / 4, room))
    let parts = ceil(splits * size * 4, 256) * 256
    let ready = turned(
      Turn(
        x: c.inputs[0], batch: task.batch, channels: task.channels, whole: granules * 8,
        places: task.area(task.image)),
      Turn(
        x: c.inputs[1], batch: task.batch, channels: task.outputs, whole: ceil(task.outputs, 8) * 8,
        places: task.area(task.result)), from: parts)
    var numbers = task.image + [granules, task.outputs]
    numbers += task.result + task.taps + task.stride + task.padding + task.dilation + [splits]
    let product = Launch(
      Kernel(
        "wide_weight", "wide_weight", ["OUTPUTS=\(tile)"] + (c.capability == 90 ? ["FLOW_SM90A"] : [])),
      grid: (grid.0, grid.1, splits), threads: 128,
      shared: 3 * 64 * ((tile > 64 ? 256 : 128) + 256),
      [.scratch(0), ready.first, ready.second, .long(Int64(places))] + numbers.map { .int(Int32($0)) })
    let shape = [task.outputs, task.channels, granules * 8, taps, splits]
    let sum = Launch(
      Kernel("splits", "sum_taps", ["T2=\(c.outputs[0].cType)"]), count: size, each: 256, threads: 256,
      [c.outputs[0].argument, .scratch(0)] + shape.map { .int(Int32($0)) })
    return Work(launches: [ready.launch, product, sum], scratch: ready.end)
  }
}
