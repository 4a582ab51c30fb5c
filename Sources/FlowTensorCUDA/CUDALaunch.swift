import CCUDA
import FlowTensor

extension CUDADevice {
  /// Puts a launch on the stream, with `arguments` of which none is of scratch memory or a table any more.
  func launch(
    _ function: UnsafeMutableRawPointer?, _ launch: Launch, _ arguments: [Argument]
  ) throws(TensorError) {
    var words: [UInt64] = []
    var starts: [Int] = []
    for argument in arguments {
      starts.append(words.count)
      words += argument.words
    }
    let status = words.withUnsafeMutableBytes { bytes in
      var pointers = starts.map { start in bytes.baseAddress.map { $0 + start * 8 } }
      return pointers.withUnsafeMutableBufferPointer {
        flow_cuLaunchKernel(
          function, UInt32(launch.grid.0), UInt32(launch.grid.1), UInt32(launch.grid.2),
          UInt32(launch.threads), 1, 1,
          UInt32(launch.shared), stream, $0.baseAddress, nil)
      }
    }
    try CUDADevice.check(status, "launching \(launch.kernel.entry) of \(launch.kernel.title)")
  }

  /// What the device takes for what `work` puts on the stream, in seconds. `action` is for messages.
  func seconds(
    of action: @autoclosure () -> String, _ work: () throws(TensorError) -> Void
  ) throws(TensorError) -> Double {
    try seconds(of: action(), runs: 1, work)[0]
  }

  /// As above, of each time that `work` is put there, `runs` times without waiting in between.
  func seconds(
    of action: @autoclosure () -> String, runs: Int, _ work: () throws(TensorError) -> Void
  ) throws(TensorError) -> [Double] {
    var events = [UnsafeMutableRawPointer?](repeating: nil, count: runs + 1)
    defer { for event in events where event != nil { flow_cuEventDestroy(event) } }
    for index in events.indices {
      try CUDADevice.check(flow_cuEventCreate(&events[index], 0), "making an event")
    }
    try CUDADevice.check(flow_cuEventRecord(events[0], stream), "timing")
    for end in events.dropFirst() {
      try work()
      try CUDADevice.check(flow_cuEventRecord(end, stream), "timing")
    }
    try CUDADevice.check(flow_cuEventSynchronize(events[runs]), action())
    var result: [Double] = []
    for (start, end) in zip(events, events.dropFirst()) {
      var milliseconds: Float = 0
      try CUDADevice.check(flow_cuEventElapsedTime(&milliseconds, start, end), "timing")
      result.append(Double(milliseconds) * 1e-3)
    }
    return result
  }
}
