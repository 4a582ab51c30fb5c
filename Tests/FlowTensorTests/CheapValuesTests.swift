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

  /// Queries and keys, normalised and rotated, are made again of the products that they come from; so is what the products
  /// read, a value normalised over its rows.
  private func attention(cheaply: Bool) throws -> (program: Program, results: [String: HostTensor]) {
    let (store, graph) = (ParameterStore(CPUBackend()), Graph())
    graph.recomputesCheaply = cheaply
    func parameter(_ name: String, _ shape: [Int]) throws -> Tensor {
      let values = (0..<shape.elements).map { Float(($0 * 37 + name.count * 11) % 101) / 101 - 0.5 }
      try store.set(name, HostTensor(values, shape))
      return try graph.parameter(name, shape)
    }
    let (batch, count, heads, width) = (2, 128, 8, 32)
    let dim = heads * width
    let names = ["x", "q", "ke", "val", "norm q", "norm ke", "norm in"]
    let parameters = try names.map { name in
      try parameter(
        name,
        name == "x"
          ? [batch, count, dim] : name.hasPrefix("norm") ? [name == "norm in" ? dim : width] : [dim, dim])
    }
    let angles = try graph.constant((0..<count * width / 2).map { Float($0 % 89) }, [1, count, 1, width / 2])
    let (cos, sin) = (try angles.cos(), try angles.sin())
    let x = try parameters[0].rmsNorm(parameters[6])
    func split(_ index: Int) throws -> Tensor {
      try x.matmul(parameters[index]).reshaped([batch, count, heads, width])
    }
    func rotated(_ index: Int) throws -> Tensor {
      try split(index).rmsNorm(parameters[index + 3]).rotated(cos: cos, sin: sin).permuted([0, 2, 1, 3])
    }
    let mixed = try rotated(1).attention(
      keys: rotated(2), values: split(3).permuted([0, 2, 1, 3]),
      mask: graph.constant(HostTensor([true], [1, 1, 1, 1])))
    let gradients = try graph.gradients(of: mixed.square().total(), withRespectTo: parameters)
    let outputs = Dictionary(uniqueKeysWithValues: zip(names, gradients))
    let program = try Program(graph, outputs: outputs, parameters: store)
    return (program, try program.run())
  }

  @Test func rotatedQueriesAreMadeAgain() throws {
    let (kept, again) = (try attention(cheaply: false), try attention(cheaply: true))
    for (name, value) in kept.results {
      let other = try #require(again.results[name])
      for (a, b) in zip(value.floats, other.floats) {
        #expect(abs(a - b) <= 1e-4 * max(1, abs(a)), "\(name)")
      }
    }
    func count(_ op: String, _ program: Program) -> Int {
      program.steps.reduce(0) { sum, step in
        sum + ((step.op as? Fused)?.members.filter { $0.op.name == op }.count ?? 0)
      }
    }
    #expect(count("rotate", kept.program) == 2 && count("rotate", again.program) == 4)
    // What rotates again writes that alone: gradients make normalised values of what was normalised for themselves.
    for case let step in again.program.steps {
      guard let members = (step.op as? Fused)?.members.map(\.op.name),
        members.contains("rotate"), !members.contains("rms-normalize")
      else { continue }
      #expect(step.outputs.count == members.count { $0 == "rotate" }, "\(again.program.listing)")
    }
    // A row's scale is kept: no sum of squares is made again.
    #expect(count("rms-normalize", again.program) == count("rms-normalize", kept.program))
  }
}
