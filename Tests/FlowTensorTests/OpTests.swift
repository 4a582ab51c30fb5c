import FlowCore
import FlowOpTable
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowTensor

@Suite struct OpTests {
  /// The sources are read, as Swift doesn't list the types that conform to a protocol.
  @Test func everyOpIsInTheTable() throws {
    let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Sources/FlowTensor")
    var declared = Set<String>()
    for path in try FileManager.default.subpathsOfDirectory(atPath: sources.path)
    where path.hasSuffix(".swift") {
      let text = try String(contentsOf: sources.appendingPathComponent(path), encoding: .utf8)
      for match in text.matches(of: /struct (\w+): Op\b/) { declared.insert(String(match.1)) }
    }
    #expect(declared.count >= 20)
    // Recorded by no one: the planner makes them, and their tests compare them with the ops they stand for.
    declared.remove("Fused")
    // What they do takes several processes (`CUDARankTests`).
    declared.subtract(["RankReduce", "RankSum"])
    let tested = Set(OpCase.all.map { "\(type(of: $0.op))" })
    #expect(declared.subtracting(tested) == [], "ops without a case")
  }

  /// Outputs and gradients of the kernels, against the references in double precision.
  @Test(arguments: OpCase.all, Device.all)
  func kernelsMatchTheReference(_ test: OpCase, _ device: Device) throws {
    for found in try test.deviations(on: device, seed: 11) {
      #expect(
        found.worst <= device.tolerance,
        "\(found.view), output or gradient \(found.index): off by \(found.worst)")
    }
  }

  /// The gradient rules, against central differences of the reference.
  @Test(arguments: OpCase.all.filter { $0.differentiable && !$0.isEmpty })
  func gradientsMatchFiniteDifferences(_ test: OpCase) throws {
    let (values, recording) = (test.values(7), try OpCase.Recording(test))
    let got = ReferenceRun(graph: recording.graph).values(recording.gradients, OpCase.named(values))
    let loss = try recording.loss()
    try compare(test, values, got) {
      ReferenceRun(graph: recording.graph).values([loss], OpCase.named($0))[0][0]
    }
  }

  static let withoutSecond = ["attention", "snake", "lstm", "ctc"]

  /// The rules of the rules: a gradient is made of ops, so it can be differentiated again.
  @Test(arguments: OpCase.all.filter { $0.differentiable && !$0.isEmpty })
  func secondDerivativesMatchFiniteDifferences(_ test: OpCase) throws {
    let (values, recording) = (test.values(5), try OpCase.Recording(test))
    let graph = recording.graph
    var sum = try graph.constant(0)
    var random = Philox(seed: 8)
    for gradient in recording.gradients {
      let drawn = (0..<gradient.shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }
      sum = try sum + (gradient * graph.constant(drawn, gradient.shape)).total()
    }
    let inputs = test.floats.map { recording.inputs[$0] }
    guard !OpTests.withoutSecond.contains(test.op.name) else {
      #expect(throws: TensorError.self) { try graph.gradients(of: sum, withRespectTo: inputs) }
      return
    }
    let second = try graph.gradients(of: sum, withRespectTo: inputs)
    let got = ReferenceRun(graph: graph).values(second, OpCase.named(values))
    try compare(test, values, got) { ReferenceRun(graph: graph).values([sum], OpCase.named($0))[0][0] }
  }

  /// Compares `got`, gradients with respect to `test.floats`, with central differences of `loss` at up to 24 elements
  /// of each input.
  private func compare(
    _ test: OpCase, _ values: [[Double]], _ got: [[Double]], _ loss: ([[Double]]) throws -> Double
  ) throws {
    let step = 1e-5
    for (position, input) in test.floats.enumerated() {
      for i in stride(from: 0, to: values[input].count, by: max(1, values[input].count / 24)) {
        var (up, down) = (values, values)
        up[input][i] += step
        down[input][i] -= step
        let want = (try loss(up) - loss(down)) / (2 * step)
        let found = got[position][i]
        #expect(
          abs(found - want) <= 2e-6 * max(1, abs(want)), "input \(input) element \(i): \(found) for \(want)")
      }
    }
  }

  @Test(arguments: OpCase.all)
  func theSameBytesOnOneTwoAndThreeThreads(_ test: OpCase) throws {
    let values = test.values(5)
    let one = try test.run(values, on: CPUBackend(threads: 1))
    for threads in 2...3 {
      let more = try test.run(values, on: CPUBackend(threads: threads))
      #expect(more.map { $0.map(\.bitPattern) } == one.map { $0.map(\.bitPattern) })
    }
  }

  @Test func largeShapesGiveTheSameBytesWhateverTheThreads() throws {
    let cases = [
      OpCase(Convolve(geometry: ConvolutionShape(padding: 9, dilation: 3)), [[2, 12, 3000], [20, 12, 7]]),
      OpCase(MatMul(transposeA: false, transposeB: true), [[300, 130], [270, 130]]),
      OpCase(Sum(axes: [0, 1]), [[40, 2000]]), OpCase(Sum(axes: [0, 2]), [[2, 9, 4000]]),
      OpCase(AliasFreeSnake(logScale: true), [[2, 8, 5000], [8], [8]], -1...1),
    ]
    for test in cases {
      let values = test.values(5)
      #expect(
        try test.run(values, on: CPUBackend(threads: 1)) == test.run(values, on: CPUBackend(threads: 2)))
    }
  }

  /// Every float input as int32, and every int32 or bool input as float.
  @Test(arguments: OpCase.all.filter { !$0.op.takesAnyType })
  func anInputOfAnotherTypeIsRefused(_ test: OpCase) throws {
    for input in test.shapes.indices {
      let graph = Graph()
      let inputs = try test.shapes.indices.map { i in
        let type = test.type(i, .float32)
        return try graph.input(
          "x\(i)", test.shapes[i], i != input ? type : type == .float32 ? .int32 : .float32)
      }
      let error = #expect(throws: TensorError.self) { try graph.apply(test.op, inputs) }
      guard case .dtype = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test func gradientsStartFromGivenWeights() throws {
    let graph = Graph()
    let (x, w) = (try graph.input("x", [2]), try graph.input("w", [2]))
    let g = try graph.gradients(of: x.square(), weightedBy: w, withRespectTo: [x])
    #expect(ReferenceRun(graph: graph).values(g, ["x": [3, 5], "w": [10, -1]]) == [[60, -10]])
    #expect(throws: TensorError.self) {
      try graph.gradients(of: x, weightedBy: graph.constant(1), withRespectTo: [x])
    }
  }
}
