import CCUDA
package import FlowTensor

/// What can't be had from a working program: faults for `scripts/gpu-check` to see the real driver report them.
package enum ProvokedFault: String, CaseIterable, Sendable {
  /// A kernel that isn't C++.
  case compilation
  /// A kernel that writes where no memory is: the process loses the device.
  case loss
}

extension CUDABackend {
  /// Makes the fault happen.
  /// - Throws: what a program would throw then.
  package func provoke(_ fault: ProvokedFault) throws(TensorError) {
    let text =
      switch fault {
      case .compilation: "KERNEL(32) fault(float* x) { this is no kernel; }"
      case .loss: "KERNEL(32) fault(float* x) { x[0] = 1; }"
      }
    let kernel = Kernel(text: text, "fault")
    try device.use()
    try compiler.prepare([kernel])
    // An address below all that the driver gives out.
    var address: UInt64 = 256
    let function = try compiler.function(kernel)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      var arguments: [UnsafeMutableRawPointer?] = [UnsafeMutableRawPointer(pointer)]
      return flow_cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, device.stream, &arguments, nil)
    }
    try CUDADevice.check(status, "launching a kernel that writes nowhere")
    try device.synchronize()
  }
}
