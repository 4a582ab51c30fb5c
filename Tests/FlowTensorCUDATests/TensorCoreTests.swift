import FlowOpTable
import Foundation
import Testing

@testable import FlowTensorCUDA

@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct TensorCoreTests {
  @Test func theirKernelsMatchTheReference() async {
    await #expect(processExitsWith: .success) { try TensorCoreTests.check("80") }
  }

  /// Which have instructions of its own.
  @Test func hoppersKernelsMatchTheReference() async {
    await #expect(processExitsWith: .success) { try TensorCoreTests.check("90") }
  }

  /// In a process of its own, for a device of its own.
  private static func check(_ capability: String) throws {
    setenv("FLOW_SHIM_CAPABILITY", capability, 1)
    try #require(Shim.isThere)
    for test in TensorCores.cases {
      let backend = Poisoned(try CUDABackend(precision: .bfloat16))
      for (index, error) in try TensorCores.errors(test, on: backend).enumerated() {
        // Roundings to 8 bits, of which attention's gradients hold differences.
        #expect(error <= 0.04, "\(test), output or gradient \(index): \(error)")
      }
    }
  }

  /// That it is them which are tested.
  @Test func theCasesUseThem() throws {
    for capability in [80, 90] {
      let survey = Survey(capability: capability, precision: .bfloat16)
      for test in TensorCores.cases { _ = try TensorCores.program(test, on: survey) }
      let files = Set(survey.kernels.map(\.file))
      let entries = Set(survey.kernels.map(\.entry))
      #expect(entries.contains("snake_tiles") && entries.contains("snake_back_tiles"), "\(entries.sorted())")
      let attention = ["attention", "attention-back"].map { $0 + (capability == 90 ? "-bulk" : "") }
      for file in attention + ["near", "wide", "wide_weight", "skinny"] {
        #expect(files.contains(file), "\(file) on sm_\(capability): \(files.sorted())")
      }
    }
  }
}
