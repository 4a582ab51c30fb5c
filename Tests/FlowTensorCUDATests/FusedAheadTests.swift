import FlowCore
import FlowOpTable
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// Fused kernels whose blocks take several rows each, and read the next while they work on one.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct FusedAheadTests {
  /// A norm of a turned value, with its gradients: a sum over more rows than blocks take at once. `parts` are a row's heads.
  private static func record(_ shape: [Int], _ type: DType) throws -> (
    graph: Graph, inputs: [String: [Int]], outputs: [Tensor]
  ) {
    let graph = Graph()
    let turned = [shape[1], shape[0], shape[2]]
    let inputs = ["x": shape, "w": [shape[2]], "g": turned]
    func input(_ name: String, _ shape: [Int]) throws -> Tensor {
      let x = try graph.input(name, shape, type)
      return type == .float32 ? x : try x.cast(to: .float32)
    }
    let (x, w, g) = (try input("x", shape), try graph.input("w", [shape[2]]), try input("g", turned))
    let y = try x.rmsNorm(w).permuted([1, 0, 2])
    let gradients = try graph.gradients(of: y, weightedBy: g, withRespectTo: [x, w])
    return (graph, inputs, gradients + [y])
  }

  /// A row on half a warp, sixteen at once; and on more threads than it fills, one.
  static let shapes = [[8, 1100, 128], [8, 300, 264]]

  static func program(_ shape: [Int], _ type: DType, on backend: any Backend) throws -> Program {
    let (graph, _, outputs) = try record(shape, type)
    let named = Dictionary(uniqueKeysWithValues: outputs.enumerated().map { ("y\($0)", $1) })
    return try Program(graph, outputs: named, parameters: ParameterStore(backend))
  }

  @Test(arguments: shapes, [DType.float32, .bfloat16])
  func valuesAndSumsMatchTheReference(_ shape: [Int], _ type: DType) throws {
    let (graph, inputs, outputs) = try Self.record(shape, type)
    var random = Philox(seed: 5)
    var (given, feed): ([String: [Double]], [String: HostTensor]) = ([:], [:])
    for (name, shape) in inputs.sorted(by: { $0.key < $1.key }) {
      let values = (0..<shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }
      let kept = name == "w" ? DType.float32 : type
      given[name] = values.map { kept.rounded(Double($0)) }
      feed[name] = try HostTensor(values, shape).cast(to: kept)
    }
    let found = try Self.program(shape, type, on: Poisoned(try CUDABackend(precision: .float32))).run(feed)
    for (index, wanted) in ReferenceRun(graph: graph).values(outputs, given).enumerated() {
      let values = try #require(found["y\(index)"]).floats
      try #require(values.count == wanted.count)
      var (error, size) = (0.0, 0.0)
      for (value, want) in zip(values, wanted) {
        error += (Double(value) - want) * (Double(value) - want)
        size += want * want
      }
      #expect((error / size).squareRoot() <= 1e-6, "output \(index)")
    }
    // That it is such kernels which are tested.
    let survey = Survey(capability: 90, precision: .float32)
    _ = try Self.program(shape, type, on: survey)
    let isAhead = survey.kernels.contains {
      if case .text(let text) = $0.source { text.contains("first_row") } else { false }
    }
    #expect(isAhead)
  }
}
