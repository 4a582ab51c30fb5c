import FlowTensor

extension KernelTable {
  /// Random numbers, alignments and recurrences.
  static func sequence(_ op: any Op, _ c: StepContext) -> Work? {
    guard c.outputs.allSatisfy({ $0.dtype == .float32 }) else { return nil }
    switch op {
    case let op as Random:
      let y = c.outputs[0]
      return Work(launches: [
        Launch(
          Kernel("random", "draw"), count: (y.count + 3) / 4, each: 256, threads: 256,
          [
            y.argument, c.inputs[0].argument, .int(Int32(bitPattern: op.stream)),
            .int(op.distribution == .normal ? 1 : 0), .long(Int64(y.count)),
          ])
      ])
    case is CTC: return ctc(c)
    case let op as LSTM: return lstm(op, c)
    case let op as LSTMBack: return lstmBack(op, c)
    default: return nil
    }
  }

  private static func ctc(_ c: StepContext) -> Work? {
    let (x, labels) = (c.inputs[0], c.inputs[1])
    guard x.dtype == .float32, labels.dtype == .int32 else { return nil }
    let (rows, steps, classes, width) = (x.shape[0], x.shape[1], x.shape[2], labels.shape[1])
    let states = 2 * width + 1
    return Work(
      launches: [
        Launch(
          Kernel("ctc", "ctc"), grid: (rows, 1, 1), threads: 128,
          c.outputs.map(\.argument) + [
            x.argument, labels.argument, .scratch(0), .long(Int64(steps)), .long(Int64(classes)),
            .long(Int64(width)),
          ])
      ], scratch: rows * 8 * (states * (steps + 2) + (3 * states + 1) / 2))
  }

  /// Sizes of a recurrence from those of its gates [T, B, 4H].
  private struct Recurrence {
    let steps: Int, batch: Int, units: Int, reverse: Bool
    init(_ gates: [Int], _ reverse: Bool) {
      (steps, batch, units, self.reverse) = (gates[0], gates[1], gates[2] / 4, reverse)
    }
    /// Where step number `step` of the order of computation lies.
    func time(_ step: Int) -> Int { reverse ? steps - 1 - step : step }
    /// The address of a step of [T, B, H], or with `gates` of [T, B, 4H].
    func at(_ x: Operand, _ time: Int, gates: Bool = false) -> Argument {
      .address(x.address + UInt64(time * batch * units * (gates ? 16 : 4)))
    }
    func launch(_ entry: String, unitsEach: Int, _ arguments: [Argument]) -> Launch {
      Launch(
        Kernel("lstm", entry), grid: ((units + unitsEach - 1) / unitsEach, (batch + 3) / 4, 1), threads: 256,
        arguments + [.long(Int64(batch)), .long(Int64(units))])
    }
  }

  private static func lstm(_ op: LSTM, _ c: StepContext) -> Work? {
    guard c.inputs.allSatisfy({ $0.dtype == .float32 }) else { return nil }
    let (x, w, h, cell, gates) = (c.inputs[0], c.inputs[1], c.outputs[0], c.outputs[1], c.outputs[2])
    let r = Recurrence(x.shape, op.reverse)
    return Work(
      launches: (0..<r.steps).map { step in
        let t = r.time(step)
        let before =
          step == 0
          ? [c.inputs[2].argument, c.inputs[3].argument]
          : [r.at(h, r.time(step - 1)), r.at(cell, r.time(step - 1))]
        return r.launch(
          "lstm_step", unitsEach: 8,
          [
            r.at(h, t), r.at(cell, t), r.at(gates, t, gates: true), r.at(x, t, gates: true), w.argument,
          ] + before)
      })
  }

  private static func lstmBack(_ op: LSTMBack, _ c: StepContext) -> Work? {
    guard c.inputs.allSatisfy({ $0.dtype == .float32 }) else { return nil }
    let (gh, gc, w, first, cell, gates) = (
      c.inputs[0], c.inputs[1], c.inputs[2], c.inputs[3], c.inputs[4], c.inputs[5]
    )
    let d = c.outputs[0]
    let r = Recurrence(gates.shape, op.reverse)
    let state = [c.outputs[1].argument, c.outputs[2].argument]
    var after = Argument.address(0)
    var launches: [Launch] = []
    for step in (0..<r.steps).reversed() {
      let t = r.time(step)
      let before = step == 0 ? first.argument : r.at(cell, r.time(step - 1))
      launches.append(
        r.launch(
          "lstm_step_back", unitsEach: 32,
          [r.at(d, t, gates: true)] + state
            + [
              after, w.argument, r.at(gh, t), r.at(gc, t), r.at(cell, t), before, r.at(gates, t, gates: true),
            ]))
      after = r.at(d, t, gates: true)
    }
    // What comes to h before the first step.
    let none = Argument.address(0)
    launches.append(
      r.launch(
        "lstm_step_back", unitsEach: 32,
        [none] + state + [after, w.argument, none, none, none, none, none]))
    return Work(launches: launches)
  }
}
