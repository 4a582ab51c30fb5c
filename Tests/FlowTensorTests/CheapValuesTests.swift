import FlowTensorCPU
import Testing

@testable import FlowTensor

/// Values that are made again for gradients instead of being kept.
@Suite struct CheapValuesTests {
  /// silu(x a) · (x b) times c, summed: the product's operand is cheap, what it is made of is kept anyway.
  private func step(cheaply: Bool) throws -> (program: Program, results: [String: HostTensor]) {
    let (store, graph) = (ParameterStore(CPUBackend()), Graph())
    graph.recomputesCheaply = cheaply
    var parameters: [Tensor] = []
    let shapes = [("x", [256, 64]), ("a", [64, 512]), ("b", [64, 512]), ("c", [512, 64])]
    for (index, (name, shape)) in shapes.enumerated() {
      let values = (0..<shape.elements).map { Float(($0 * 37 + index * 11) % 101) / 101 - 0.5 }
      try store.set(name, HostTensor(values, shape))
      parameters.append(try graph.parameter(name, shape))
    }
    let (x, a, b, c) = (parameters[0], parameters[1], parameters[2], parameters[3])
    let gated = try x.matmul(a).silu() * x.matmul(b)
    let loss = try gated.matmul(c).square().total()
    let gradients = try graph.gradients(of: loss, withRespectTo: parameters)
    var outputs = ["loss": loss]
    for (index, gradient) in gradients.enumerated() { outputs["g\(index)"] = gradient }
    let program = try Program(graph, outputs: outputs, parameters: store)
    return (program, try program.run())
  }

  @Test("Gradients are the same numbers with cheap values made again, and less memory is used")
  func sameGradients() throws {
    let (kept, again) = (try step(cheaply: false), try step(cheaply: true))
    for (name, value) in kept.results {
      let other = try #require(again.results[name])
      for (a, b) in zip(value.floats, other.floats) { #expect(abs(a - b) <= 1e-5 * max(1, abs(a))) }
    }
    let products = { (program: Program) in
      program.steps.reduce(0) { sum, step in
        guard let group = step.op as? Fused else { return sum + (step.op.name == "multiply" ? 1 : 0) }
        return sum + group.members.filter { $0.op.name == "multiply" }.count
      }
    }
    #expect(products(again.program) == products(kept.program) + 1)
    #expect(again.program.arenaCount <= kept.program.arenaCount)
  }
}
