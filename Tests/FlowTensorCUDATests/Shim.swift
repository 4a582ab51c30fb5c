import FlowOpTable
import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation

/// The CUDA backend on the CPU's stand-in for a device.
enum Shim {
  /// Whether it can be used here; the reason why not is printed.
  static let isThere: Bool = {
    guard let folder = CUDAShim.folder else { return false }
    CUDALibraries.use(folder, kernels: folder + "/cubins")
    return true
  }()
  static let reason = "CUDA on the CPU can't be built here"

  /// Whether races are looked for: it takes minutes where nothing is compiled yet, so it is asked for.
  static let checksRaces: Bool = {
    if ProcessInfo.processInfo.environment["FLOW_RACES"] != nil { return true }
    print("skipped: races in CUDA kernels (FLOW_RACES=1 looks for them)")
    return false
  }()

  /// How the table is run on it.
  enum Mode: String, CaseIterable, Sendable {
    case float32
    case bfloat16Inputs
    case bfloat16

    /// A device of its own for each test: what is being recorded on one must not meet what another does.
    func device() throws -> Device {
      switch self {
      case .float32:
        Device("cuda", Poisoned(try CUDABackend(precision: .float32)), tolerance: 2e-5)
      case .bfloat16Inputs:
        Device(
          "cuda, bfloat16 inputs", Poisoned(try CUDABackend(precision: .float32)), storage: .bfloat16,
          tolerance: 2e-5)
      case .bfloat16:
        Device("cuda, bfloat16", Poisoned(try CUDABackend(precision: .bfloat16)), tolerance: 3e-2)
      }
    }
  }
}

extension OpCase {
  /// One of the views, plain for half of the cases: kernels are compiled for each.
  var view: InputView {
    [.plain, .permuted, .plain, .sliced][description.utf8.reduce(0) { ($0 * 31 + Int($1)) % 997 } % 4]
  }
}
