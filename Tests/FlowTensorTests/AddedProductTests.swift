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

  /// A low-rank layer's sums: its residual is added to one of the products, and the factor is a product's, in the gradients too.
  @Test func aLowRankLayerHasNoStepsForItsFactorAndItsResidual() throws {
    func program(_ backend: any Backend) throws -> (names: [String], values: [String: HostTensor]) {
      let graph = Graph()
      let shapes: [(name: String, shape: [Int])] = [
        ("x", [2, 3, 4]), ("w", [4, 4]), ("a", [2, 4]), ("b", [4, 2]),
      ]
      var tensors: [String: Tensor] = [:]
      for (name, shape) in shapes { tensors[name] = try graph.input(name, shape) }
      func named(_ name: String) throws -> Tensor { try #require(tensors[name]) }
      let x = try named("x")
      let hidden = try x.linear(named("a")) * 0.5
      let y = try x + (x.linear(named("w")) + hidden.linear(named("b")))
      let gradients = try graph.gradients(of: y.square().total(), withRespectTo: [named("a"), named("b")])
      let program = try Program(
        graph, outputs: ["y": y, "a": gradients[0], "b": gradients[1]], parameters: ParameterStore(backend))
      var given: [String: HostTensor] = [:]
      for (name, shape) in shapes {
        let values = (0..<shape.elements).map { Float(($0 * 37 + 11) % 23) / 23 - 0.4 }
        given[name] = try HostTensor(values, shape)
      }
      return (program.operations, try program.run(given))
    }
    let (wanted, found) = (try program(CPUBackend()), try program(Adding()))
    #expect(found.names.filter { $0 == "matmul-add" }.count == 2, "\(found.names)")
    // What flows back through b, and a's gradient; in b's, the layer's half and the square's two are one.
    #expect(found.names.filter { $0 == "matmul-scaled" }.count == 2, "\(found.names)")
    #expect(!found.names.contains { $0 == "affine" || $0 == "add" }, "\(found.names)")
    for (name, value) in wanted.values {
      let other = try #require(found.values[name])
      for (a, b) in zip(value.floats, other.floats) { #expect(abs(a - b) <= 1e-5, "\(name)") }
    }
  }
}
