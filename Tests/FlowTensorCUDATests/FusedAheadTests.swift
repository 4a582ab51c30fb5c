import FlowCore
import FlowOpTable
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// Fused kernels whose blocks take several rows each, and read the next while they work on one.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct FusedAheadTests {
  /// A norm of a turned value, with its gradients: a sum over more rows than blocks take at once. `parts` are a row's heads.
  private static func record(_ shape: [Int]) throws -> (
    graph: Graph, inputs: [String: [Int]], outputs: [Tensor]
  ) {
    let graph = Graph()
    let turned = [shape[1], shape[0], shape[2]]
    let inputs = ["x": shape, "w": [shape[2]], "g": turned]
    let (x, w, g) = (
      try graph.input("x", shape), try graph.input("w", [shape[2]]), try graph.input("g", turned)
    )
    // Values between ops, which may be narrow.
    let narrow = try x * 1.25
    let y = try narrow.rmsNorm(w).permuted([1, 0, 2])
    let gradients = try graph.gradients(of: y, weightedBy: g * 0.75, withRespectTo: [x, w])
    return (graph, inputs, gradients + [y])
  }

  /// A row on half a warp, sixteen at once; and on more threads than it fills, one.
  @Test(arguments: [[8, 1100, 128], [2, 300, 264]], [CUDAPrecision.float32, .bfloat16])
  func valuesAndSumsMatchTheReference(_ shape: [Int], _ precision: CUDAPrecision) throws {
    let (graph, inputs, outputs) = try Self.record(shape)
    var random = Philox(seed: 5)
    var (given, feed): ([String: [Double]], [String: HostTensor]) = ([:], [:])
    for (name, shape) in inputs.sorted(by: { $0.key < $1.key }) {
      let values = (0..<shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }
      given[name] = values.map(Double.init)
      feed[name] = try HostTensor(values, shape)
    }
    let named = Dictionary(uniqueKeysWithValues: outputs.enumerated().map { ("y\($0)", $1) })
    let backend = Poisoned(try CUDABackend(precision: precision))
    let found = try Program(graph, outputs: named, parameters: ParameterStore(backend)).run(feed)
    for (index, wanted) in ReferenceRun(graph: graph).values(outputs, given).enumerated() {
      let values = try #require(found["y\(index)"]).floats
      try #require(values.count == wanted.count)
      var (error, size) = (0.0, 0.0)
      for (value, want) in zip(values, wanted) {
        error += (Double(value) - want) * (Double(value) - want)
        size += want * want
      }
      #expect((error / size).squareRoot() <= (precision == .bfloat16 ? 1e-2 : 1e-6), "output \(index)")
    }
    // That it is such kernels which are tested.
    let survey = Survey(capability: 90, precision: precision)
    _ = try Program(graph, outputs: named, parameters: ParameterStore(survey))
    let isAhead = survey.kernels.contains {
      if case .text(let text) = $0.source { text.contains("first_row") } else { false }
    }
    #expect(isAhead)
  }
}
