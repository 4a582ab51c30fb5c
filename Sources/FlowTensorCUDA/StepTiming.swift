import CCUDA
import FlowTensor

/// What steps take by themselves.
extension CUDASteps {
  func doer(of index: Int) -> Int { doers[index] }

  func time(steps order: [Int], runs: Int) throws(TensorError) -> [Double] {
    let order = order.filter { !commands[$0].isEmpty }
    guard let first = order.first else { return [Double](repeating: 0, count: runs) }
    try device.use()
    func enqueueAll() throws(TensorError) { for index in order { try enqueue(step: index) } }
    if order.count > 1 { return try replayed(runs, enqueueAll) }
    return try device.seconds(of: "running \(steps[first].op.name)", runs: runs, enqueueAll)
  }

  func time(cold order: [Int], runs: Int) throws(TensorError) -> [Double]? {
    try device.use()
    try compiler.prepare(Trial.kernels([]))
    let trial = Trial(device: device, compiler: compiler)
    // By turns, each thrice the cache: neither finds there what it read before.
    let words = device.cache / 4 * 3
    guard let (far, seen) = try trial.buffers(words: [words, words]) else { return nil }
    // What is recorded has their addresses alone.
    defer { withExtendedLifetime((far, seen)) {} }
    var readings: [() throws(TensorError) -> Void] = []
    for buffer in far { readings.append(try trial.reading(buffer, seen)) }
    func times(_ isWhole: Bool) throws(TensorError) -> [Double] {
      try replayed(runs) { () throws(TensorError) in
        for (turn, index) in order.enumerated() {
          try readings[turn % 2]()
          if isWhole { try enqueue(step: index) }
        }
      }
    }
    return zip(try times(true), try times(false)).map(-)
  }

  private func enqueue(step index: Int) throws(TensorError) {
    for command in commands[index] { try enqueue(command) }
  }

  /// Seconds of each run of what `work` puts on the stream. As in a program's run, the host doesn't launch it piece by piece;
  /// what it does is hidden behind a run more, which isn't counted.
  private func replayed(_ runs: Int, _ work: () throws(TensorError) -> Void) throws(TensorError) -> [Double] {
    var made: UnsafeMutableRawPointer?
    try device.recording { () throws(TensorError) in made = try recorded(work) }
    defer { flow_cuGraphExecDestroy(made) }
    let times = try device.seconds(of: "running steps", runs: runs + 1) { () throws(TensorError) in
      try CUDADevice.check(flow_cuGraphLaunch(made, device.stream), "starting steps")
    }
    return Array(times.dropFirst())
  }
}
