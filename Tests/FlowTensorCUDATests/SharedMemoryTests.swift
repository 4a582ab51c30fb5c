import FlowTensor
import FlowTensorCUDA
import Testing

/// What kernels are given of a multiprocessor's memory.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct SharedMemoryTests {
  /// Both steps take one kernel, the first with more shared memory than the second.
  @Test func aStepThatWantsLessDoesNotLowerTheLimitOfAnother() throws {
    let graph = Graph()
    let x = try graph.input("x", [1, 48, 200], .bfloat16)
    var outputs: [String: Tensor] = [:]
    for taps in [11, 7] {
      let weight = try graph.input("w\(taps)", [48, 48, taps], .bfloat16)
      outputs["y\(taps)"] = try x.conv1d(weight, padding: taps / 2)
    }
    let store = ParameterStore(try CUDABackend(precision: .bfloat16))
    let program = try Program(graph, outputs: outputs, parameters: store)
    func ones(_ shape: [Int]) throws -> HostTensor {
      try HostTensor([Float](repeating: 1, count: shape.reduce(1, *)), shape).cast(to: .bfloat16)
    }
    let result = try program.run([
      "x": ones([1, 48, 200]), "w11": ones([48, 48, 11]), "w7": ones([48, 48, 7]),
    ])
    // In the middle every tap meets a one; at the left edge those from the middle on do.
    for (name, taps) in [("y11", 11), ("y7", 7)] {
      let y = result[name]?.floats ?? []
      #expect(y.count == 48 * 200)
      #expect(y.dropFirst(100).first == Float(48 * taps))
      #expect(y.first == Float(48 * (taps / 2 + 1)))
    }
  }
}
