import FlowTensor

extension KernelTable {
  /// Few channels in one group and long rows, in bfloat16; `nil` otherwise.
  static func nearConvolution(_ task: ConvolutionTask, _ c: StepContext) -> Work? {
    let isBack = task.kind == .back
    let (input, output) = isBack ? (task.outputs, task.channels) : (task.channels, task.outputs)
    guard task.kind != .weight, isBrief(c), task.groups == 1, task.batch > 0, (8...64).contains(input),
      let out = [8, 16, 24, 32, 48, 64].first(where: { output <= $0 })
    else { return nil }
    let (from, to) = isBack ? (task.result, task.image) : (task.image, task.result)
    let whole = ceil(input, 16) * 16
    guard task.area(task.taps) <= 1024, !isBack || task.area(task.stride) <= 16 && task.stride[1] <= 4,
      task.batch * task.area(from) * whole < 1 << 31
    else { return nil }
    let phases = Phases(task, granules: whole / 8)
    let (steps, apart) = isBack ? ([1, 1], task.stride) : (task.stride, [1, 1])
    let columns = isBack ? ceil(to[1], task.stride[1]) : to[1]
    // Tiles of a row's stretch, or of 32 or 16 columns.
    let runs = to[0] == 1 && out <= 32 ? 4 : 2
    let places = 64 * runs
    let across = to[0] == 1 ? places : columns >= 32 ? 32 : 16
    guard columns >= across / 2, phases.besides <= 64 else { return nil }
    let reach = (across - 1) * steps[1] + phases.spans[1] + 1
    let (tall, alike) = ((places / across - 1) * steps[0] + phases.spans[0] + 1, ceil(reach, steps[1]))
    let pitch = whole * 2 + 16
    let size = c.outputs[0].dtype == .bfloat16 ? 2 : 4
    let image = tall * alike * steps[1] * pitch
    let sums = out * (places * apart[1] + 16 / size) * size
    let shared =
      phases.besides * ceil(out, 16) * 16 * pitch + (apart[1] == 1 ? max(image, sums) : image + sums)
    // Two blocks share a multiprocessor.
    guard shared <= (c.capability >= 90 ? 112 : 80) << 10 else { return nil }
    let tiles = task.batch * ceil(columns, across) * (ceil(phases.places, columns * (places / across)) + 1)
    let resident = min(4, ((c.capability >= 90 ? 227 : 163) << 10) / (shared + 2048))
    let blocks = max(1, min(tiles, resident * c.multiprocessors / apart[0]))
    let ready = turned(task, c, whole: whole, from: 0)
    var numbers = [task.batch] + from + [output] + to + [task.area(task.taps)]
    numbers += steps + apart + [tall, reach, alike]
    let defines = [
      "T2=\(c.outputs[0].cType)", "IN=\(whole)", "OUT=\(out)", "RUNS=\(runs)", "WIDE=\(across)",
    ]
    let product = Launch(
      Kernel("near", "near", defines), grid: (blocks, ceil(output, out), apart[0]), threads: 128,
      shared: shared,
      [c.outputs[0].argument, ready.first, ready.second, phases.table] + numbers.map { .int(Int32($0)) })
    return Work(launches: [ready.launch, product], scratch: ready.end)
  }
}
