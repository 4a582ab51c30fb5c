import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Testing

/// What goes wrong with devices (`FLOW_SHIM_FAULT`), and what is said of it. A process each: a fault stays.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
struct FaultTests {
  /// The error of `work` on a device with `fault`.
  private static func problem(
    _ fault: String, _ work: (CUDABackend) throws -> Void = { _ in }
  ) throws -> TensorError {
    try start(fault)
    return try #require(throws: TensorError.self) { try work(CUDABackend(precision: .float32)) }
  }

  /// Makes the stand-in have `fault`, and no kernels from before, nor any that are left.
  private static func start(_ fault: String) throws {
    setenv("FLOW_SHIM_FAULT", fault, 1)
    setenv("FLOW_KERNEL_CACHE", "", 1)
    CUDALibraries.use(try #require(CUDAShim.folder))
  }

  /// A program of a product and a sum, run `times` times.
  private static func run(_ backend: CUDABackend, times: Int = 1) throws {
    let graph = Graph()
    let x = try graph.input("x", [40, 30])
    let program = try Program(
      graph, outputs: ["y": x.matmul(x, transpose: true).tanh().sum([1])], parameters: ParameterStore(backend)
    )
    let values = [Float](repeating: 0.1, count: 1200)
    for _ in 0..<times { _ = try program.run(["x": HostTensor(values, [40, 30])]) }
  }

  @Test func aMachineWithoutADeviceIsTold() async {
    await #expect(processExitsWith: .success) {
      let text = try FaultTests.problem("no-device").description
      #expect(text.contains("CUDA_ERROR_NO_DEVICE") && text.contains("device: cpu"), "\(text)")
    }
  }

  @Test func missingLibrariesAreNamedWithTheFoldersThatWereLookedIn() async {
    await #expect(processExitsWith: .success) {
      CUDALibraries.use("/nowhere")
      let error = try #require(throws: TensorError.self) { try CUDABackend() }
      #expect(error.description.contains("libcuda.so.1"), "\(error)")
      #expect(error.description.contains("/nowhere"), "\(error)")
      #expect(CUDALibraries.report.allSatisfy { $0.problem != nil && $0.path == nil })
    }
  }

  @Test func aDriverTooOldIsToldItsVersionAndWhatIsNeeded() async {
    await #expect(processExitsWith: .success) {
      let text = try FaultTests.problem("driver=11040").description
      #expect(text.contains("11.4") && text.contains("too old") && text.contains("12.0"), "\(text)")
    }
  }

  @Test func aDeviceThatAnotherProcessHoldsIsTold() async {
    await #expect(processExitsWith: .success) {
      let text = try FaultTests.problem("exclusive").description
      #expect(text.contains("Another process"), "\(text)")
    }
  }

  /// What keys say of a device is known without a context on it.
  @Test func aDeviceIsNamedThoughAnotherProcessHoldsIt() async {
    await #expect(processExitsWith: .success) {
      try FaultTests.start("exclusive")
      #expect(try CUDADescription().summary == "the CPU, as a CUDA device (sm_80, 8 GiB)")
    }
  }

  @Test func aKernelThatDoesNotCompileIsNamedWithTheCompilersWords() async {
    await #expect(processExitsWith: .success) {
      let text = try FaultTests.problem("compile") { try FaultTests.run($0) }.description
      #expect(text.contains("does not compile") && text.contains("FLOW_SHIM_FAULT asks"), "\(text)")
    }
  }

  @Test func aLostDeviceIsToldAndStaysLost() async {
    await #expect(processExitsWith: .success) {
      try FaultTests.start("lost-at=5")
      let backend = try CUDABackend(precision: .float32)
      for _ in 0..<2 {
        let error = try #require(throws: TensorError.self) { try FaultTests.run(backend, times: 20) }
        #expect(error.description.contains("lost") && error.description.contains("checkpoint"), "\(error)")
      }
    }
  }

  @Test func memoryThatCanNotBeHadIsToldInBytesAndTheDeviceGoesOn() async {
    await #expect(processExitsWith: .success) {
      try FaultTests.start("oom-at=200000000")
      let backend = try CUDABackend(precision: .float32)
      let graph = Graph()
      let x = try graph.input("x", [60_000_000])
      let error = try #require(throws: TensorError.self) {
        try Program(graph, outputs: ["y": x.tanh()], parameters: ParameterStore(backend))
      }
      guard case .outOfMemory(let bytes, _) = error else { throw error }
      #expect(bytes >= 240_000_000)
      try FaultTests.run(backend)
      let memory = try backend.memory()
      #expect(memory.free > 0 && memory.free <= memory.total)
    }
  }
}
