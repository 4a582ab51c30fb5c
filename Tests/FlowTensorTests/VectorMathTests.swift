import FlowCore
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowTensor

@Suite struct VectorMathTests {
  private func apply(_ function: UnaryFunction, _ x: [Float]) throws -> [Float] {
    let graph = Graph()
    let y = try graph.apply(Unary(function), [graph.input("x", [x.count])])[0]
    let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    return try program.run(["x": try HostTensor(x, [x.count])])["y"]?.floats ?? []
  }

  /// Beyond 1e4 sin and cos take another way, as do logarithms of subnormal numbers.
  @Test(arguments: [
    (UnaryFunction.exp, -87.0, 88.0, 0.0), (.log, 1e-30, 1e30, 1e-7), (.log, 1e-44, 1e-38, 0),
    (.log, 0.5, 2, 1e-7),
    (.sin, -1000, 1000, 2e-7), (.cos, -1000, 1000, 2e-7), (.sin, -1e4, 1e4, 1e-6), (.cos, -1e4, 1e4, 1e-6),
    (.sin, -1e7, 1e7, 2e-7), (.tanh, -10, 10, 0), (.tanh, -1e-3, 1e-3, 0), (.sigmoid, -80, 80, 0),
    (.erf, -6, 6, 0),
    (.softplus, -30, 60, 0), (.rsqrt, 1e-30, 1e30, 0),
  ])
  func isWithinItsBound(_ function: UnaryFunction, _ low: Double, _ high: Double, _ absolute: Double) throws {
    var random = Philox(seed: 2, label: "\(function)\(low)")
    let spread = low > 0 && high / low > 100
    let x = (0..<20_011).map { _ -> Float in
      let u = random.uniform(0...1)
      return Float(spread ? exp(log(low) + u * (log(high) - log(low))) : low + u * (high - low))
    }
    var worst = 0.0
    for (v, y) in zip(x, try apply(function, x)) where v != 0 {
      let want = function.value(Double(v))
      worst = max(worst, (abs(Double(y) - want) - absolute) / abs(want))
    }
    #expect(worst <= 1e-6, "worst relative error \(worst)")
  }

  @Test func keepsTheSpecialValues() throws {
    let log = try apply(.log, [0, -1, .infinity, .nan, 1])
    #expect(log[0] == -.infinity && log[1].isNaN && log[2] == .infinity && log[3].isNaN && log[4] == 0)
    let tanh = try apply(.tanh, [.infinity, -.infinity, .nan, 0])
    #expect(tanh[0] == 1 && tanh[1] == -1 && tanh[2].isNaN && tanh[3] == 0)
    let sin = try apply(.sin, [.infinity, .nan, 0])
    #expect(sin[0].isNaN && sin[1].isNaN && sin[2] == 0)
  }
}
