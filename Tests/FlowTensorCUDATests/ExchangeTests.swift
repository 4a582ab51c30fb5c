import FlowCore
import FlowNN
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Testing

@testable import FlowTensor

/// What ranks exchange, of one that speaks with itself; several are processes (`CUDARankTests`).
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
struct ExchangeTests {
  private static func start(_ fault: String = "") throws -> CUDABackend {
    setenv("FLOW_SHIM_FAULT", fault, 1)
    let folder = try #require(CUDAShim.folder)
    CUDALibraries.use(folder, kernels: folder + "/cubins")
    return try CUDABackend(precision: .float32, ranks: SoleRank())
  }

  @Test func gradientsAreUnderWayBeforeAllAreMade() async {
    await #expect(processExitsWith: .success) {
      let loop = try SmallTraining.loop(on: ExchangeTests.start())
      let operations = try #require(loop.programs.first).program.operations
      let first = try #require(operations.firstIndex(of: "rank_reduce"))
      let last = try #require(operations.lastIndex { $0.hasPrefix("matmul") })
      #expect(first < last, "\(operations)")
      #expect(operations.count { $0 == "rank_reduce" } == 2, "\(operations)")
    }
  }

  @Test func theBitsAreThoseOfATrainingWithout() async {
    await #expect(processExitsWith: .success) {
      let ranked = try SmallTraining.loop(on: ExchangeTests.start(), average: 0.9)
      let plain = try SmallTraining.loop(on: CUDABackend(precision: .float32), average: 0.9)
      for loop in [ranked, plain] { try loop.run() }
      #expect(try ranked.checkpoint() == plain.checkpoint())
    }
  }

  @Test func aRankThatIsLostEndsTheTrainingWithItsReason() async {
    await #expect(processExitsWith: .success) {
      let loop = try SmallTraining.loop(on: ExchangeTests.start("rank-lost-at=20"))
      let error = try #require(throws: TensorError.self) { try loop.run() }
      #expect(loop.nextStep > 0)
      #expect(error.description.contains("NCCL: a rank is lost: remote process exited"), "\(error)")
      #expect(error.description.contains("The last checkpoint is as it was"), "\(error)")
    }
  }
}
