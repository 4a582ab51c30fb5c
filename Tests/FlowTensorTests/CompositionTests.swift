import FlowCore
import FlowOpTable
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowTensor

/// A function of float32 tensors that is recorded as several ops, or whose gradient is to be differentiated again.
struct Composition: CustomTestStringConvertible, Sendable {
  typealias Record = @Sendable ([Tensor]) throws(TensorError) -> Tensor
  let text: String
  let shapes: [[Int]]
  var domain: ClosedRange<Double> = -2...2
  /// The function of one element of each input, for elementwise functions.
  var formula: (@Sendable ([Double]) -> Double)?
  /// Whether its gradient has a gradient.
  var smooth = true
  let record: Record
  var testDescription: String { text }

  init(
    _ text: String, _ shapes: [[Int]], _ domain: ClosedRange<Double> = -2...2, smooth: Bool = true,
    formula: (@Sendable ([Double]) -> Double)? = nil, record: @escaping Record
  ) {
    self.text = text
    self.shapes = shapes
    self.domain = domain
    self.smooth = smooth
    self.formula = formula
    self.record = record
  }

  static let all = activations + reductions + normalizations + images + sequences

  private static let activations: [Composition] = [
    Composition(
      "gelu", [[2, 9]], formula: { x in x[0] * 0.5 * (1 + erf(x[0] / 2.0.squareRoot())) }
    ) { (x) throws(TensorError) in try x[0].gelu() },
    Composition(
      "gelu by tanh", [[2, 9]],
      formula: { x in x[0] * 0.5 * (1 + tanh((2 / Double.pi).squareRoot() * (x[0] + 0.044715 * pow(x[0], 3))))
      }
    ) { (x) throws(TensorError) in try x[0].gelu(approximate: true) },
    Composition("softplus", [[7]], -30...30, formula: { x in log1p(exp(x[0])) }) { (x) throws(TensorError) in
      try x[0].softplus()
    },
    Composition("leaky relu", [[17]], smooth: false, formula: { x in x[0] > 0 ? x[0] : 0.1 * x[0] }) {
      (x) throws(TensorError) in try x[0].leakyRelu(0.1)
    },
    Composition("elu", [[17]], smooth: false, formula: { x in x[0] > 0 ? x[0] : 1.5 * expm1(x[0]) }) {
      (x) throws(TensorError) in try x[0].elu(1.5)
    },
    Composition("power", [[11], [11]], 0.5...2, formula: { x in pow(x[0], x[1]) }) {
      (x) throws(TensorError) in
      try x[0].power(x[1])
    },
    Composition("cube", [[11]], formula: { x in x[0] * x[0] * x[0] }) { (x) throws(TensorError) in
      try x[0].power(3)
    },
    Composition("rsqrt", [[11]], 0.5...2, formula: { x in pow(x[0], -0.5) }) { (x) throws(TensorError) in
      try x[0].power(-0.5)
    },
    Composition("erf", [[31]], -4...4, formula: { x in erf(x[0]) }) { (x) throws(TensorError) in
      try x[0].erf()
    },
    Composition(
      "select", [[13], [13], [13]], smooth: false, formula: { x in x[0] > 0.3 ? x[1] : x[2] * x[2] }
    ) { (x) throws(TensorError) in
      try x[0].greater(x[0].graph.constant(0.3)).select(x[1], x[2].square())
    },
    Composition("clamp", [[23]], smooth: false, formula: { x in min(max(x[0], -1), 0.5) }) {
      (x) throws(TensorError) in try x[0].clamped(-1, 0.5)
    },
  ]

  private static let reductions: [Composition] = [
    Composition("logsumexp", [[3, 5, 2]]) { (x) throws(TensorError) in try x[0].logSumExp([1]) },
    Composition("logsumexp of all", [[3, 5]]) { (x) throws(TensorError) in try x[0].logSumExp() },
    Composition("max of two runs", [[3, 4, 5, 2]], smooth: false) { (x) throws(TensorError) in
      try x[0].largest([0, 2, 3])
    },
    Composition("min", [[3, 5]], smooth: false) { (x) throws(TensorError) in try x[0].smallest() },
    Composition("cumsum", [[3, 5]]) { (x) throws(TensorError) in
      try x[0].square().cumulativeSum(1, reverse: true).square()
    },
    Composition("flip", [[3, 5]]) { (x) throws(TensorError) in try x[0].square().flipped([0, 1]) * x[0] },
    Composition("tile", [[2, 3]]) { (x) throws(TensorError) in try x[0].square().tiled([3, 2]) },
    Composition("repeat", [[2, 3]]) { (x) throws(TensorError) in try x[0].square().repeated(4, along: 0) },
    Composition("take at the largest", [[4, 5]], smooth: false) { (x) throws(TensorError) in
      try x[0].square().taken(1, at: x[0].argmax(1))
    },
  ]

  private static let normalizations: [Composition] = [
    Composition("layer norm", [[3, 8], [8], [8]], smooth: false) { (x) throws(TensorError) in
      try x[0].layerNorm(x[1], x[2])
    },
    Composition("group norm", [[2, 6, 5], [6], [6]], smooth: false) { (x) throws(TensorError) in
      try x[0].groupNorm(3, x[1], x[2])
    },
    Composition("instance norm", [[2, 3, 4, 2], [3], [3]], smooth: false) { (x) throws(TensorError) in
      try x[0].instanceNorm(x[1], x[2])
    },
    Composition("batch norm", [[2, 3, 4], [3], [3], [3], [3]], 0.5...2) { (x) throws(TensorError) in
      try x[0].batchNorm(mean: x[1], variance: x[2], x[3], x[4])
    },
  ]
}

/// A composition recorded with its gradients, and theirs.
private struct Recorded {
  let graph = Graph()
  let value: Tensor
  let gradients: [Tensor]
  let second: [Tensor]
  let names: [String]
  var outputs: [Tensor] { [value] + gradients + second }

  init(_ test: Composition) throws {
    names = test.shapes.indices.map { "x\($0)" }
    var x: [Tensor] = []
    for (name, shape) in zip(names, test.shapes) { try x.append(graph.input(name, shape)) }
    value = try test.record(x)
    let graph = graph
    var random = Philox(seed: 3, label: test.text)
    func weighted(_ tensors: [Tensor]) throws -> Tensor {
      var sum = try graph.constant(0)
      for tensor in tensors {
        let weights = (0..<tensor.shape.elements).map { _ in Float(random.uniform(-1...1)) }
        sum = try sum + (tensor * graph.constant(weights, tensor.shape)).total()
      }
      return sum
    }
    let loss = try weighted([value])
    gradients = try graph.gradients(of: loss, withRespectTo: x)
    let slope = try weighted(gradients)
    second = test.smooth ? try graph.gradients(of: slope, withRespectTo: x) : []
    losses = [loss, slope]
  }
  /// What the gradients, and the second gradients, are of.
  let losses: [Tensor]
}

@Suite struct CompositionTests {
  private func draw(_ test: Composition) -> [String: [Double]] {
    var random = Philox(seed: 17, label: test.text)
    var values: [String: [Double]] = [:]
    for (i, shape) in test.shapes.enumerated() {
      values["x\(i)"] = (0..<shape.elements).map { _ in Double(Float(random.uniform(test.domain))) }
    }
    return values
  }

  @Test(arguments: Composition.all)
  func gradientsAndTheirsAgreeWithFiniteDifferencesInDoublePrecision(_ test: Composition) throws {
    let recorded = try Recorded(test)
    let run = ReferenceRun(graph: recorded.graph)
    let values = draw(test)
    for (order, found) in [recorded.gradients, recorded.second].enumerated() where !found.isEmpty {
      let got = run.values(found, values)
      for (position, name) in recorded.names.enumerated() {
        for i in (values[name] ?? []).indices {
          func loss(_ step: Double) -> Double {
            var moved = values
            moved[name]?[i] += step
            return run.values([recorded.losses[order]], moved)[0][0]
          }
          let want = (loss(1e-5) - loss(-1e-5)) / 2e-5
          #expect(
            abs(got[position][i] - want) <= 1e-5 * max(1, abs(want)),
            "order \(order + 1), \(name)[\(i)]: \(got[position][i]) for \(want)")
        }
      }
    }
  }

  @Test(arguments: Composition.all)
  func theDeviceAgreesWithDoublePrecisionAndTheFormula(_ test: Composition) throws {
    let recorded = try Recorded(test)
    let values = draw(test)
    let wanted = ReferenceRun(graph: recorded.graph).values(recorded.outputs, values)
    if let formula = test.formula {
      for i in wanted[0].indices {
        let want = formula(recorded.names.map { values[$0]?[i] ?? .nan })
        #expect(abs(wanted[0][i] - want) <= 2e-7 * max(1, abs(want)))
      }
    }
    var feed: [String: HostTensor] = [:]
    for (name, shape) in zip(recorded.names, test.shapes) {
      feed[name] = try HostTensor((values[name] ?? []).map(Float.init), shape)
    }
    var bits: [[[UInt32]]] = []
    for threads in 1...2 {
      var outputs: [String: Tensor] = [:]
      for (i, tensor) in recorded.outputs.enumerated() { outputs["\(i)"] = tensor }
      let program = try Program(
        recorded.graph, outputs: outputs, parameters: ParameterStore(CPUBackend(threads: threads)))
      let results = try program.run(feed)
      let found = wanted.indices.map { results["\($0)"]?.floats ?? [] }
      bits.append(found.map { $0.map(\.bitPattern) })
      for (got, want) in zip(found, wanted) {
        #expect(got.count == want.count)
        for (g, w) in zip(got, want) { #expect(abs(Double(g) - w) <= 5e-5 * max(1, abs(w)), "\(g) for \(w)") }
      }
    }
    #expect(bits[0] == bits[1])
  }
}

/// Values of functions at points where they are delicate.
@Suite struct DelicateValueTests {
  private func evaluate(_ x: [Float], _ record: (Tensor) throws -> Tensor) throws -> [Float] {
    let graph = Graph()
    let y = try record(graph.input("x", [x.count]))
    let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    return try program.run(["x": try HostTensor(x, [x.count])])["y"]?.floats ?? []
  }
  private func slope(_ x: [Float], _ record: (Tensor) throws -> Tensor) throws -> [Float] {
    try evaluate(x) { try $0.graph.gradients(of: record($0).total(), withRespectTo: [$0])[0] }
  }

  @Test func comparisonsHoldAsTheyShouldAndNeverForNaN() throws {
    let x: [Float] = [1, 2, 3, .nan, .infinity]
    func two(_ record: (Tensor, Tensor) throws -> Tensor) throws -> [Float] {
      try evaluate(x) { try record($0, $0.graph.constant(2)) }
    }
    #expect(try two { try $0.greater($1) } == [0, 0, 1, 0, 1])
    #expect(try two { try $0.greaterOrEqual($1) } == [0, 1, 1, 0, 1])
    #expect(try two { try $0.less($1) } == [1, 0, 0, 0, 0])
    #expect(try two { try $0.lessOrEqual($1) } == [1, 1, 0, 0, 0])
    #expect(try two { try $0.equal($1) } == [0, 1, 0, 0, 0])
  }

  @Test func whatSelectLeavesOutCanBeAnythingAndHasNoGradient() throws {
    let x: [Float] = [4, 0, -1]
    func root(_ t: Tensor) throws -> Tensor {
      let positive = try t.greater(t.graph.constant(0))
      return try positive.select(t.rsqrt(), t.graph.constant(7).broadcast(to: [3]))
    }
    #expect(try evaluate(x, root) == [0.5, 7, 7])
    let inner = try slope(x) { try $0.greater($0.graph.constant(0)).select($0 * 3, $0.log().detached()) }
    #expect(inner == [3, 0, 0])
  }

  @Test func gradientsAtTheKinksAreThoseOfTorch() throws {
    #expect(try slope([-1, -0.5, 0, 0.5, 2]) { try $0.clamped(-0.5, 0.5) } == [0, 1, 1, 1, 0])
    #expect(try slope([0]) { try $0.elu(0.5) } == [0.5])
    #expect(try slope([0]) { try $0.leakyRelu(0.25) } == [0.25])
    #expect(try slope([1, 3, 3, 0]) { try $0.largest() } == [0, 0.5, 0.5, 0])
    #expect(try slope([0, 2]) { try $0.power(3) } == [0, 12])
    #expect(try slope([0, 2]) { try $0.power($0.graph.constant(0)) } == [0, 0])
  }

  @Test func roundingIsDownOrToTheNearestEven() throws {
    #expect(try evaluate([-1.5, -0.5, 0.5, 1.5, 2.5, 2.6]) { try $0.round() } == [-2, -0.0, 0, 2, 2, 3])
    #expect(try evaluate([-1.5, -0.5, 0.5, 3]) { try $0.floor() } == [-2, -1, 0, 3])
  }

  @Test func NaNWinsAmongExtremes() throws {
    for count in [3, 100] {
      var x = [Float](repeating: 1, count: count)
      x[count - 2] = .nan
      #expect(try evaluate(x) { try $0.largest() }[0].isNaN)
      #expect(try evaluate(x) { try $0.smallest() }[0].isNaN)
    }
  }

  @Test func logSumExpOverflowsNowhere() throws {
    let y = try evaluate([1000, 1000, -1000]) { try $0.logSumExp() }
    #expect(abs(y[0] - 1000.6931) < 1e-3)
  }

  @Test func softplusKeepsItsTails() throws {
    let y = try evaluate([-20, 0, 50, .infinity]) { try $0.softplus() }
    #expect(
      abs(y[0] - 2.0611536e-9) < 1e-14 && abs(y[1] - 0.6931472) < 1e-6 && y[2] == 50 && y[3] == .infinity)
  }

  @Test func anArgumentMaximumIsAnIntegerAndOfEqualsTheFirst() throws {
    let graph = Graph()
    let y = try graph.input("x", [2, 4]).argmax(1)
    let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    let x = try HostTensor([1, 5, 5, 2, -3, .nan, 9, 0] as [Float], [2, 4])
    #expect(try program.run(["x": x])["y"]?.values == .int32([1, 1]))
  }

  @Test func aComputedIndexOutsideItsTableGivesZeros() throws {
    let graph = Graph()
    let (x, table) = (try graph.input("x", [2, 9]), try graph.input("table", [4, 2]))
    let y = try table.rows(at: x.argmax(1))
    let slope = try graph.gradients(of: y.total(), withRespectTo: [table])[0]
    let program = try Program(
      graph, outputs: ["y": y, "slope": slope], parameters: ParameterStore(CPUBackend()))
    let far = try HostTensor([0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5] as [Float], [2, 9])
    let rows = try HostTensor([1, 2, 3, 4, 5, 6, 7, 8] as [Float], [4, 2])
    let found = try program.run(["x": far, "table": rows])
    #expect(found["y"]?.floats == [7, 8, 0, 0])
    #expect(found["slope"]?.floats == [0, 0, 0, 0, 0, 0, 1, 1])
  }

  @Test func indicesOutsideTheirAxisAreRefused() throws {
    let graph = Graph()
    let index = try graph.input("i", [2], .int32)
    let program = try Program(
      graph, outputs: ["y": index.oneHot(4)], parameters: ParameterStore(CPUBackend()))
    #expect(throws: TensorError.self) { try program.run(["i": try HostTensor([0, 4] as [Int32], [2])]) }
    #expect(
      try program.run(["i": try HostTensor([3, 0] as [Int32], [2])])["y"]?.floats == [0, 0, 0, 1, 1, 0, 0, 0])
  }
}
