import FlowTensorCPU
import Testing

@testable import FlowTensor

@Suite struct AddedProductTests {
  /// A device whose products can be added to what is there.
  private struct Adding: Backend {
    let device = CPUBackend()
    let name = "adding"
    let addsInProducts = true
    func makeBuffer(_ count: Int) throws -> any DeviceBuffer { try device.makeBuffer(count) }
    func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { nil }
    func prepare(_ steps: [Step]) throws -> any PreparedSteps { try device.prepare(steps) }
  }

  private func program(
    _ backend: any Backend, _ record: (Tensor, Tensor) throws -> Tensor
  ) throws -> (names: [String], values: [Float]) {
    let graph = Graph()
    let (x, w) = (try graph.input("x", [2, 3, 4]), try graph.input("w", [4, 4]))
    let program = try Program(
      graph, outputs: ["y": try record(x, w)], parameters: ParameterStore(backend), fuse: true)
    func drawn(_ count: Int) -> [Float] { (0..<count).map { Float(($0 * 37 + 11) % 23) / 23 - 0.4 } }
    let result = try program.run([
      "x": try HostTensor(drawn(24), [2, 3, 4]), "w": try HostTensor(drawn(16), [4, 4]),
    ])
    return (program.operations, result["y"]?.floats ?? [])
  }

  /// What is added, on the device and elsewhere, and how many products take a sum in.
  @Test(
    arguments: [
      (
        3,
        { @Sendable x, w in
          try x.matmul(w) * 0.5 + x + x.matmul(w, transpose: true) + x.matmul(w.square())
        }
      ),
      (1, { @Sendable x, w in try (x + x.matmul(w)).exp() }),
      // Read twice, and of another shape.
      (
        0,
        { @Sendable x, w in
          let y = try x.matmul(w); return try y + y
        }
      ),
      (0, { @Sendable x, w in try x.matmul(w) + w.sum([0]).reshaped([4]) }),
    ] as [(Int, @Sendable (Tensor, Tensor) throws -> Tensor)])
  func sumsAreTakenIn(_ count: Int, _ record: @Sendable (Tensor, Tensor) throws -> Tensor) throws {
    let (wanted, found) = (try program(CPUBackend(), record), try program(Adding(), record))
    #expect(found.names.filter { $0 == "matmul-add" }.count == count)
    #expect(
      found.names.filter { $0 == "matmul" }.count + count == wanted.names.filter { $0 == "matmul" }.count)
    for (a, b) in zip(found.values, wanted.values) { #expect(abs(a - b) <= 1e-5) }
    #expect(found.values.count == wanted.values.count && !found.values.isEmpty)
  }
}
