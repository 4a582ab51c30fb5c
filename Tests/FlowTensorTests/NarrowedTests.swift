import FlowTensorCPU
import Testing

@testable import FlowTensor

@Suite struct NarrowedTests {
  /// A device whose products want bfloat16 operands.
  private struct Narrow: Backend {
    let device = CPUBackend()
    let name = "narrow"
    var narrowing: Narrowing? {
      Narrowing(
        type: .bfloat16, reads: { op, _ in op is MatMul }, writes: { _, _ in false },
        wants: { op, _ in op is MatMul })
    }
    func makeBuffer(_ count: Int) throws -> any DeviceBuffer { try device.makeBuffer(count) }
    func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { nil }
    func prepare(_ steps: [Step]) throws -> any PreparedSteps { try device.prepare(steps) }
  }

  /// Copies of what is there from the start are side by side, so that they can be one launch; others come where they are
  /// first wanted, and none twice.
  @Test func copiesOfParametersComeFirst() throws {
    let graph = Graph()
    let x = try graph.input("x", [4, 8])
    let (a, b) = (try graph.parameter("a", [8, 8]), try graph.parameter("b", [8, 8]))
    let y = try x.matmul(a).exp().matmul(b).matmul(a)
    let units = try Schedule(graph, roots: [y], fuse: false, for: Narrow()).units
    #expect(
      units.map(\.op.name) == [
        "cast", "cast", "cast", "matmul", "exp", "cast", "matmul", "cast", "matmul",
      ])
  }
}
