import FlowCore
import FlowTensorCPU
import Testing

@testable import FlowTensor

@Suite struct RandomTests {
  private func draw(_ op: Random, seed: Int32, step: Int32, threads: Int = 1) throws -> [Float] {
    let graph = Graph()
    let y = try graph.apply(op, [graph.input("key", [2], .int32)])[0]
    let program = try Program(
      graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend(threads: threads)))
    return try program.run(["key": try HostTensor([seed, step], [2])])["y"]?.floats ?? []
  }

  @Test(arguments: Random.Distribution.allCases, [1, 3, 4, 7, 9001])
  func matchesTheReferenceWhateverTheThreads(_ distribution: Random.Distribution, _ count: Int) throws {
    let op = Random(distribution: distribution, shape: [count], stream: 5)
    let got = try draw(op, seed: 7, step: 3)
    let want = op.reference([[7, 3]], [[2]])[0]
    #expect(got.count == want.count)
    for (g, w) in zip(got, want) { #expect(abs(Double(g) - w) <= 2e-6 * max(1, abs(w))) }
    #expect(try draw(op, seed: 7, step: 3, threads: 2).map(\.bitPattern) == got.map(\.bitPattern))
  }

  @Test func seedStepAndStreamEachChangeTheNumbers() throws {
    let op = Random(distribution: .uniform, shape: [64], stream: 0)
    let other = Random(distribution: .uniform, shape: [64], stream: 1)
    let draws = [
      try draw(op, seed: 1, step: 0), try draw(op, seed: 1, step: 1), try draw(op, seed: 2, step: 0),
      try draw(other, seed: 1, step: 0),
    ]
    #expect(Set(draws).count == 4)
  }

  @Test func normalNumbersHaveTheMomentsOfTheNormalDistribution() throws {
    let x = try draw(Random(distribution: .normal, shape: [40_000], stream: 2), seed: 9, step: 1).map(
      Double.init)
    func moment(_ k: Int) -> Double {
      x.reduce(0) { sum, v in sum + (0..<k).reduce(1.0) { p, _ in p * v } } / Double(x.count)
    }
    #expect(abs(moment(1)) < 0.025)
    #expect(abs(moment(2) - 1) < 0.04)
    #expect(abs(moment(4) - 3) < 0.25)
  }

  @Test func dropoutKeepsTheExpectedShareAndMean() throws {
    let graph = Graph()
    let x = try graph.constant([Float](repeating: 2, count: 20_000), [20_000])
    let y = try x.dropout(0.25, key: graph.input("key", [2], .int32), stream: 0)
    let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    let got = try program.run(["key": try HostTensor([1, 2] as [Int32], [2])])["y"]?.floats ?? []
    #expect(got.allSatisfy { $0 == 0 || abs($0 - 2 / 0.75) < 1e-5 })
    #expect(abs(Double(got.count { $0 == 0 }) / 20_000 - 0.25) < 0.015)
  }

  @Test func dropoutHasTheSameBytesOnAnyThreadsAndItsGradientTheSameMask() throws {
    var bits: [[[UInt32]]] = []
    for threads in 1...3 {
      let graph = Graph()
      let x = try graph.input("x", [70_001])
      let y = try x.dropout(0.4, key: graph.input("key", [2], .int32), stream: 6)
      let slope = try graph.gradients(of: y.total(), withRespectTo: [x])[0]
      let program = try Program(
        graph, outputs: ["y": y, "slope": slope], parameters: ParameterStore(CPUBackend(threads: threads)))
      let values = (0..<70_001).map { Float($0 % 17 - 20) }
      let given = try HostTensor(values, [70_001])
      let found = try program.run(["x": given, "key": try HostTensor([11, 5] as [Int32], [2])])
      let (y1, slope1) = (found["y"]?.floats ?? [], found["slope"]?.floats ?? [])
      #expect(zip(y1, zip(slope1, given.floats)).allSatisfy { $0 == $1.0 * $1.1 })
      #expect(Set(slope1).count == 2)
      bits.append([y1.map(\.bitPattern), slope1.map(\.bitPattern)])
    }
    #expect(bits[0] == bits[1] && bits[0] == bits[2])
  }
}

@Suite struct TrainingTests {
  private static let shapes: [(name: String, shape: [Int])] = [
    ("conv", [16, 4, 7]), ("alpha", [16]), ("beta", [16]), ("norm", [16]), ("q", [16, 16]), ("k", [16, 16]),
    ("v", [16, 16]), ("out", [4, 16]),
  ]

  /// A convolution, a snake, one block of attention and a projection; AdamW in the program.
  private func program(_ store: ParameterStore) throws -> Program {
    let graph = Graph()
    let (b, n) = (2, 150)
    let x = try graph.input("x", [b, 4, n])
    var w: [String: Tensor] = [:]
    for (name, shape) in TrainingTests.shapes { w[name] = try graph.parameter(name, shape) }
    func p(_ name: String) throws -> Tensor { try #require(w[name]) }
    var h = try x.conv1d(p("conv"), padding: 9, dilation: 3)
    h = try h.aliasFreeSnake(alpha: p("alpha"), beta: p("beta"), logScale: true).permuted([0, 2, 1])
    h = try h.dropout(0.1, key: graph.input("key", [2], .int32), stream: 0)
    let a = try h.rmsNorm(p("norm"))
    func heads(_ t: Tensor) throws -> Tensor { try t.reshaped([b, n, 2, 8]).permuted([0, 2, 1, 3]) }
    let mask = try graph.constant(HostTensor((0..<n * n).map { $0 / n / 10 >= $0 % n / 10 }, [1, 1, n, n]))
    let y = try heads(a.linear(p("q"))).attention(
      keys: heads(a.linear(p("k"))), values: heads(a.linear(p("v"))), mask: mask)
    h = try h + y.permuted([0, 2, 1, 3]).reshaped([b, n, 16])
    let loss = try (h.linear(p("out")) - x.permuted([0, 2, 1])).square().mean().reshaped([])
    let names = TrainingTests.shapes.map(\.name)
    let gradients = try graph.gradients(of: loss, withRespectTo: names.map(p))
    let scalars = try graph.input("scalars", [4])
    for (name, g) in zip(names, gradients) {
      let (m, v) = (try graph.parameter("m." + name, g.shape), try graph.parameter("v." + name, g.shape))
      try graph.adamW(AdamW(), parameter: p(name), gradient: g, first: m, second: v, scalars: scalars)
    }
    return try Program(graph, outputs: ["loss": loss], parameters: store)
  }

  private func fresh(_ threads: Int) throws -> ParameterStore {
    let store = ParameterStore(CPUBackend(threads: threads))
    var random = Philox(seed: 1)
    for (name, shape) in TrainingTests.shapes {
      let values = (0..<shape.reduce(1, *)).map { _ in Float(random.uniform(-0.3...0.3)) }
      try store.set(name, try HostTensor(values, shape))
      let zeros = try HostTensor([Float](repeating: 0, count: values.count), shape)
      try store.set("m." + name, zeros)
      try store.set("v." + name, zeros)
    }
    return store
  }

  private func train(_ program: Program, _ steps: Range<Int>) throws -> [Float] {
    try steps.map { step in
      var random = Philox(seed: 4, stream: UInt64(step % 3))
      let x = (0..<2 * 4 * 150).map { _ in Float(random.uniform(-1...1)) }
      let n = Float(step + 1)
      func power(_ base: Float) -> Float { (0..<Int(n)).reduce(Float(1)) { p, _ in p * base } }
      return try program.run([
        "x": try HostTensor(x, [2, 4, 150]), "key": try HostTensor([3, Int32(step)], [2]),
        "scalars": try HostTensor([0.01, 1 - power(0.9), 1 - power(0.999), 1], [4]),
      ])["loss"]?.floats[0] ?? .nan
    }
  }

  private func bits(_ store: ParameterStore) throws -> [[UInt32]] {
    try store.names.map { try store.get($0).floats.map(\.bitPattern) }
  }

  @Test func twentyStepsGiveTheSameBytesOnOneTwoAndThreeThreadsAndLearn() throws {
    let one = try fresh(1)
    let losses = try train(try program(one), 0..<20)
    #expect(losses.allSatisfy { $0.isFinite })
    #expect((losses.last ?? 1) < 0.7 * losses[0])
    for threads in 2...3 {
      let more = try fresh(threads)
      #expect(try train(try program(more), 0..<20).map(\.bitPattern) == losses.map(\.bitPattern))
      #expect(try bits(more) == bits(one))
    }
  }

  @Test func aTrainingResumedFromItsStoreGivesTheSameBytes() throws {
    let whole = try fresh(1)
    _ = try train(try program(whole), 0..<8)
    let first = try fresh(2)
    _ = try train(try program(first), 0..<5)
    let second = ParameterStore(CPUBackend(threads: 1))
    for name in first.names { try second.set(name, try first.get(name)) }
    _ = try train(try program(second), 5..<8)
    #expect(try bits(second) == bits(whole))
  }
}
