import FlowCore
import FlowTensorCPU
import Testing

@testable import FlowTensor

/// One use of an op: shapes of its inputs, and where their values are drawn from.
struct OpCase: CustomTestStringConvertible, Sendable {
  let op: any Op
  let shapes: [[Int]]
  var domain: ClosedRange<Double> = -2...2
  var indices: (input: Int, limit: Int)?
  /// An input of zeros and ones, which has no gradient.
  var mask: Int?
  var differentiable = true
  var testDescription: String { "\(op.name) \(shapes)" }

  init(
    _ op: any Op, _ shapes: [[Int]], _ domain: ClosedRange<Double> = -2...2, indices: (Int, Int)? = nil,
    mask: Int? = nil, differentiable: Bool = true
  ) {
    self.op = op
    self.shapes = shapes
    self.domain = domain
    self.mask = mask
    self.indices = indices.map { (input: $0.0, limit: $0.1) }
    self.differentiable = differentiable
  }

  static let all: [OpCase] =
    elementwise + arrangements + products + attentions + convolutions + axes + images + sequences

  private static let elementwise: [OpCase] = {
    var cases = UnaryFunction.allCases.map { OpCase(Unary($0), [[3, 7]], $0.domain) }
    let pairs: [[[Int]]] = [
      [[2, 3, 5], [2, 3, 5]], [[2, 3, 5], [5]], [[4, 1, 3], [1, 6, 1]], [[3, 4], []], [[1], [7]],
    ]
    for function in BinaryFunction.allCases {
      for pair in pairs { cases.append(OpCase(Binary(function), pair, 0.4...2)) }
    }
    cases.append(OpCase(AliasFreeSnake(logScale: true), [[2, 3, 19], [3], [3]], -1...1))
    cases.append(OpCase(AliasFreeSnake(logScale: false), [[1, 2, 5], [2], [2]], 0.5...1.5))
    cases.append(OpCase(AliasFreeSnake(logScale: true), [[1, 2, 1], [2], [2]], -1...1))
    cases.append(OpCase(AdamW(), [[5], [5], [5], [5], [4]], 0.1...0.9, differentiable: false))
    return cases
  }()

  private static let arrangements: [OpCase] = {
    var cases: [OpCase] = []
    cases.append(OpCase(Sum(axes: [0, 2]), [[3, 4, 5]]))
    cases.append(OpCase(Sum(axes: [1]), [[3, 4, 5]]))
    cases.append(OpCase(Sum(axes: [0]), [[17]]))
    cases.append(OpCase(Sum(axes: [0, 1]), [[2, 300]]))
    cases.append(OpCase(Softmax(), [[5, 7]]))
    cases.append(OpCase(Softmax(), [[2, 1]]))
    cases.append(OpCase(RMSNormalize(epsilon: 1e-6), [[4, 6]]))
    cases.append(OpCase(Concatenate(axis: 1), [[2, 3, 2], [2, 1, 2], [2, 4, 2]]))
    cases.append(OpCase(Frame(window: 5, hop: 3), [[2, 17]]))
    cases.append(OpCase(Frame(window: 4, hop: 1), [[1, 4]]))
    cases.append(OpCase(OverlapAdd(hop: 2, length: 13), [[2, 4, 5]]))
    cases.append(OpCase(Gather(), [[7, 3], [2, 4]], indices: (1, 7)))
    cases.append(OpCase(ScatterAdd(rows: 5), [[2, 3, 4], [2, 3]], indices: (1, 5)))
    for mode in Pad.Mode.allCases {
      cases.append(OpCase(Pad(axis: 1, before: 3, after: 2, mode: mode), [[2, 5]]))
      cases.append(OpCase(Pad(axis: 1, before: 0, after: 1, mode: mode), [[3, 2]]))
      if mode != .zero { cases.append(OpCase(Unpad(before: 3, after: 2, mode: mode), [[2, 11]])) }
    }
    cases.append(OpCase(Pad(axis: 0, before: 1, after: 2, mode: .zero), [[2, 5]]))
    return cases
  }()

  private static let products: [OpCase] = {
    var cases: [OpCase] = []
    for a in [false, true] {
      for b in [false, true] {
        let op = MatMul(transposeA: a, transposeB: b)
        cases.append(OpCase(op, [a ? [4, 3] : [3, 4], b ? [5, 4] : [4, 5]]))
        cases.append(OpCase(op, [[6, 1, 1], b ? [6, 7, 1] : [6, 1, 7]]))
        cases.append(OpCase(op, [a ? [2, 4, 3] : [2, 3, 4], b ? [5, 4] : [4, 5]]))
      }
    }
    return cases
  }()

  private static let attentions: [OpCase] = {
    let op = Attention(scale: 0.6)
    func shapes(_ q: [Int], _ keys: Int, _ mask: [Int]) -> [[Int]] {
      let k = [q[0], q[1], keys, q[3]]
      return [q, k, k, mask + [q[2], keys]]
    }
    return [
      OpCase(op, shapes([1, 1, 1, 1], 1, [1, 1])), OpCase(op, shapes([2, 3, 5, 4], 7, [1, 1]), mask: 3),
      OpCase(op, shapes([2, 2, 3, 2], 19, [2, 1]), mask: 3),
      OpCase(op, shapes([1, 2, 67, 3], 2, [1, 2]), mask: 3),
      OpCase(op, shapes([2, 2, 4, 5], 33, [2, 2]), mask: 3),
    ]
  }()

  private static let convolutions: [OpCase] = {
    let geometries = [
      (1, 0, 1, 1), (1, 3, 1, 7), (1, 5, 5, 3), (2, 1, 1, 4), (3, 0, 2, 2), (5, 2, 1, 9), (1, 0, 3, 2),
      (4, 2, 1, 8),
    ]
    var cases: [OpCase] = []
    for (stride, padding, dilation, taps) in geometries {
      let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
      cases.append(OpCase(Convolve(geometry: geometry), [[2, 3, 29], [5, 3, taps]]))
      let result = geometry.outputLength(29, taps: taps)
      cases.append(OpCase(ConvolveWeight(geometry: geometry, taps: taps), [[2, 3, 29], [2, 5, result]]))
    }
    cases.append(OpCase(Convolve(geometry: ConvolutionShape(padding: 3)), [[1, 1, 131], [1, 1, 7]]))
    for (stride, padding, taps) in [(2, 1, 4), (5, 3, 11), (1, 0, 3), (10, 5, 20), (1, 4, 3)] {
      let geometry = ConvolutionShape(stride: stride, padding: padding)
      let length = 6 * stride - 2 * padding + taps
      cases.append(OpCase(ConvolveBack(geometry: geometry, length: length), [[2, 4, 7], [4, 3, taps]]))
    }
    return cases
  }()

  func values(_ seed: UInt64) -> [[Double]] {
    var random = Philox(seed: seed, label: testDescription)
    return shapes.enumerated().map { position, shape in
      (0..<shape.reduce(1, *)).map { _ in
        if let indices, indices.input == position {
          return Double(Int(random.uniform() * Double(indices.limit)))
        }
        if mask == position { return random.uniform() < 0.5 ? 1 : 0 }
        return random.uniform(domain)
      }
    }
  }

  /// Records the op; the loss is its first output's product with fixed weights.
  func run(_ values: [[Double]], threads: Int) throws -> (
    outputs: [[Float]], gradients: [[Float]], weights: [Float]
  ) {
    let graph = Graph()
    let inputs = try shapes.indices.map {
      try graph.input("x\($0)", shapes[$0], indices?.input == $0 ? .int32 : .float32)
    }
    let results = try graph.apply(op, inputs)
    var random = Philox(seed: 3)
    let weights = (0..<results[0].shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }
    var gradients: [Tensor] = []
    if differentiable {
      let loss = try (results[0] * graph.constant(weights, results[0].shape)).total()
      let floats = inputs.indices.filter { indices?.input != $0 }
      gradients = try graph.gradients(of: loss, withRespectTo: floats.map { inputs[$0] })
    }
    var outputs: [String: Tensor] = [:]
    for (i, result) in results.enumerated() { outputs["y\(i)"] = result }
    for (i, gradient) in gradients.enumerated() { outputs["g\(i)"] = gradient }
    let program = try Program(
      graph, outputs: outputs, parameters: ParameterStore(CPUBackend(threads: threads)))
    var feed: [String: HostTensor] = [:]
    for (i, shape) in shapes.enumerated() {
      feed["x\(i)"] =
        indices?.input == i
        ? try HostTensor(values[i].map { Int32($0) }, shape)
        : try HostTensor(values[i].map { Float($0) }, shape)
    }
    let out = try program.run(feed)
    return (
      results.indices.map { out["y\($0)"]?.floats ?? [] },
      gradients.indices.map { out["g\($0)"]?.floats ?? [] },
      weights
    )
  }
}

@Suite struct OpTests {
  @Test(arguments: OpCase.all)
  func matchesReferenceAndFiniteDifferences(_ test: OpCase) throws {
    let values = test.values(11).map { $0.map { Double(Float($0)) } }
    let (outputs, gradients, weights) = try test.run(values, threads: 1)
    let expected = test.op.reference(values, test.shapes)
    for (got, want) in zip(outputs, expected) {
      #expect(got.count == want.count)
      for (g, w) in zip(got, want) { #expect(abs(Double(g) - w) <= 2e-5 * max(1, abs(w)), "\(g) for \(w)") }
    }
    guard test.differentiable else { return }
    let floats = test.shapes.indices.filter { test.indices?.input != $0 }
    func loss(_ inputs: [[Double]]) -> Double {
      zip(test.op.reference(inputs, test.shapes)[0], weights).reduce(0) { $0 + $1.0 * Double($1.1) }
    }
    for (position, input) in floats.enumerated() where input != test.mask {
      for i in values[input].indices {
        var (up, down) = (values, values)
        up[input][i] += 1e-4
        down[input][i] -= 1e-4
        let want = (loss(up) - loss(down)) / 2e-4
        let got = Double(gradients[position][i])
        #expect(
          abs(got - want) <= 2e-3 * max(1, abs(want)), "input \(input) element \(i): \(got) for \(want)")
      }
    }
  }

  @Test(arguments: OpCase.all)
  func theSameBytesOnOneTwoAndThreeThreads(_ test: OpCase) throws {
    let values = test.values(5)
    let one = try test.run(values, threads: 1)
    for threads in 2...3 {
      let more = try test.run(values, threads: threads)
      #expect(more.outputs.map { $0.map(\.bitPattern) } == one.outputs.map { $0.map(\.bitPattern) })
      #expect(more.gradients.map { $0.map(\.bitPattern) } == one.gradients.map { $0.map(\.bitPattern) })
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
      let (one, two) = (try test.run(values, threads: 1), try test.run(values, threads: 2))
      #expect(one.outputs == two.outputs)
      #expect(one.gradients == two.gradients)
    }
  }

  @Test func secondDerivativesFollowFromTheRules() throws {
    // d²/dx² of sum(sin(x)·x²) by differentiating the gradient.
    let graph = Graph()
    let x = try graph.input("x", [3])
    let loss = try (x.sin() * x.square()).total()
    let first = try graph.gradients(of: loss, withRespectTo: [x])[0]
    let second = try graph.gradients(of: first.total(), withRespectTo: [x])[0]
    let program = try Program(graph, outputs: ["h": second], parameters: ParameterStore(CPUBackend()))
    let values: [Float] = [0.3, -1.1, 2]
    let got = try program.run(["x": try HostTensor(values, [3])])["h"]?.floats ?? []
    for (v, h) in zip(values.map(Double.init), got) {
      let want = (2 - v * v) * OpTests.sine(v) + 4 * v * OpTests.sine(v + .pi / 2)
      #expect(abs(Double(h) - want) < 1e-5)
    }
  }

  private static func sine(_ x: Double) -> Double { Unary(.sin).reference([[x]], [[1]])[0][0] }
}

@Suite struct ProgramTests {
  @Test func assignmentsUpdateParametersInPlaceAndAcrossRuns() throws {
    let store = ParameterStore(CPUBackend())
    try store.set("w", try HostTensor([1, 2, 3] as [Float], [3]))
    let graph = Graph()
    let w = try graph.parameter("w", [3])
    let old = try w * 1
    try graph.assign(w, w * 2)
    let program = try Program(graph, outputs: ["old": old], parameters: store)
    #expect(try program.run()["old"]?.floats == [1, 2, 3])
    #expect(try program.run()["old"]?.floats == [2, 4, 6])
    #expect(try store.get("w").floats == [4, 8, 12])
  }

  @Test func badInputsAreTypedErrors() throws {
    let graph = Graph()
    let table = try graph.parameter("t", [4, 2])
    let rows = try table.rows(at: graph.input("i", [3], .int32))
    let store = ParameterStore(CPUBackend())
    #expect(throws: TensorError.self) { try Program(graph, outputs: ["y": rows], parameters: store) }
    try store.set("t", try HostTensor([Float](repeating: 1, count: 8), [4, 2]))
    let program = try Program(graph, outputs: ["y": rows], parameters: store)
    #expect(throws: TensorError.self) { try program.run() }
    #expect(throws: TensorError.self) { try program.run(["i": try HostTensor([0, 1] as [Int32], [2])]) }
    #expect(throws: TensorError.self) { try program.run(["i": try HostTensor([0, 1, 4] as [Int32], [3])]) }
    #expect(throws: TensorError.self) { try program.run(["i": try HostTensor([0, 1, 3] as [Float], [3])]) }
    #expect(try program.run(["i": try HostTensor([0, 1, 3] as [Int32], [3])])["y"]?.shape == [3, 2])
  }

  @Test func buffersAreReusedByLiveness() throws {
    let graph = Graph()
    var x = try graph.input("x", [1000])
    for _ in 0..<50 { x = try (x + x.sin()).cos() }
    let program = try Program(graph, outputs: ["y": x], parameters: ParameterStore(CPUBackend()))
    #expect(program.arenaCount <= 3 * 1008)
  }
}
