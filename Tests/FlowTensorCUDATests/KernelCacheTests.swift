import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Testing

/// Compiled kernels that are kept between processes. A process each: the folder is the environment's.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here")) struct KernelCacheTests {
  /// What a program of a few kernels gives, compiled as by a new process.
  private static func result() throws -> [Float] {
    let graph = Graph()
    let x = try graph.input("x", [40, 30])
    let program = try Program(
      graph, outputs: ["y": x.matmul(x, transpose: true).tanh().sum([1])],
      parameters: ParameterStore(try CUDABackend(precision: .float32)))
    let values = (0..<1200).map { Float($0 % 7) * 0.01 }
    return try program.run(["x": HostTensor(values, [40, 30])])["y"]?.floats ?? []
  }

  @Test func aDamagedFileIsMadeAgain() async {
    await #expect(processExitsWith: .success) {
      let folder = NSTemporaryDirectory() + "flow-kernels-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      setenv("FLOW_KERNEL_CACHE", folder, 1)
      CUDALibraries.use(try #require(CUDAShim.folder))
      let wanted = try KernelCacheTests.result()
      let kept = try KernelCacheTests.files(folder)
      #expect(wanted.count == 40 && !kept.isEmpty)
      for damage in [{ _ in Data() }, { $0.prefix($0.count / 2) }, { Data($0.map { $0 ^ 1 }) }]
        as [(Data) -> Data]
      {
        for (path, bytes) in kept { try damage(bytes).write(to: URL(fileURLWithPath: path)) }
        #expect(try KernelCacheTests.result() == wanted)
        #expect(try KernelCacheTests.files(folder).keys.sorted() == kept.keys.sorted())
        #expect(try KernelCacheTests.files(folder).allSatisfy { $1.count == kept[$0]?.count })
      }
    }
  }

  @Test func anEmptyNameOfTheFolderKeepsNothing() async {
    await #expect(processExitsWith: .success) {
      let home = NSTemporaryDirectory() + "flow-home-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: home) }
      setenv("XDG_CACHE_HOME", home, 1)
      setenv("FLOW_KERNEL_CACHE", "", 1)
      CUDALibraries.use(try #require(CUDAShim.folder))
      #expect(try KernelCacheTests.result().count == 40)
      #expect(!FileManager.default.fileExists(atPath: home))
    }
  }

  private static func files(_ folder: String) throws -> [String: Data] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".cubin") }
    return try Dictionary(
      uniqueKeysWithValues: names.map { name in
        (folder + "/" + name, try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name)))
      })
  }
}
