import FlowOpTable
import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Synchronization
import Testing

/// Launches of every kernel of the op table, done again under the thread sanitizer, a thread of its own for each of the
/// device's: an access that no barrier orders is found whatever its result.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)"), .enabled(if: Shim.checksRaces)) struct RaceTests {
  @Test func noKernelHasOne() async throws {
    let program = try #require(try CUDAShim.program("races.cpp", races: true))
    // Where launches are recorded: another run of this test has its own.
    let launched = try TemporaryFolder()
    let folder = launched.path
    await #expect(processExitsWith: .success) { [folder = folder as String] in
      try #require(Shim.isThere)
      setenv("FLOW_SHIM_RECORD", folder, 1)
      // First, as only so many of the kernels that are made for programs are recorded.
      for group in [RowGroups.norm, .softmax] {
        for alike in try FusedFormTests.alike(group, [37, 264], .bfloat16) { #expect(alike.count > 2) }
      }
      for mode in Shim.Mode.allCases {
        for test in OpCase.all {
          let device = try mode.device()
          _ = try test.run(test.values(2, device.storage), on: device.backend, test.view, device.storage)
        }
      }
      for capability in ["80", "90"] {
        setenv("FLOW_SHIM_CAPABILITY", capability, 1)
        for test in TensorCores.cases {
          _ = try TensorCores.errors(test, on: Poisoned(CUDABackend(precision: .bfloat16)))
        }
      }
    }
    let launches = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    #expect(launches.count > 100)
    print("\(launches.count) launches of CUDA kernels are done again under the thread sanitizer")
    let problems = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: launches.count) { index in
      do {
        let module = try RaceTests.module(String(launches[index].prefix(32)))
        let result = try CUDAShim.run(
          [program, module, folder + "/" + launches[index]],
          ["TSAN_OPTIONS": "halt_on_error=1"])
        if result.status != 0 {
          problems.withLock { $0.append("\(launches[index]): \(result.errors.prefix(3000))") }
        }
      } catch { problems.withLock { $0.append("\(launches[index]): \(error)") } }
    }
    for problem in problems.withLock({ $0.sorted() }) { Issue.record("\(problem)") }
    withExtendedLifetime(launched) {}
  }

  /// The module `digest` with the sanitizer, compiled once.
  private static func module(_ digest: String) throws -> String {
    let kernels = try #require(CUDAShim.folder) + "/kernels/"
    let path = kernels + digest + "-races.so"
    if FileManager.default.fileExists(atPath: path) { return path }
    let made = path + UUID().uuidString
    let result = try CUDAShim.run(
      [
        CUDAShim.compiler ?? "", "-std=c++17", "-DFLOW_SHIM", "-DSHIM_MODULE", "-w", "-O1", "-g", "-fPIC",
        "-shared",
        "-nostdlib", "-fuse-ld=lld", "-fvisibility=hidden", kernels + digest + ".cpp", "-o", made,
      ] + CUDAShim.raceOptions)
    try #require(result.status == 0, "\(result.errors)")
    try? FileManager.default.moveItem(atPath: made, toPath: path)
    return path
  }
}
