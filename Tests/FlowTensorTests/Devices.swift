import FlowOpTable
import FlowTensor
import FlowTensorCPU

extension Device {
  /// All that this machine has. Thread counts that don't divide the sizes are the ones that find mistakes.
  static let all = [
    Device("blas", Poisoned(CPUBackend(threads: 1)), tolerance: 2e-5),
    Device("blas, 3 threads", Poisoned(CPUBackend(threads: 3)), tolerance: 2e-5),
    Device("blas, bfloat16", Poisoned(CPUBackend(threads: 2)), storage: .bfloat16, tolerance: 2e-5),
    Device("blas, float16", Poisoned(CPUBackend(threads: 2)), storage: .float16, tolerance: 2e-5),
  ]
}
