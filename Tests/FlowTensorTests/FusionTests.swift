import FlowCore
import FlowOpTable
import FlowTensorCPU
import Testing

@testable import FlowTensor

/// Groups of ops computed in one pass: the same numbers as one by one, and the groups that are expected.
@Suite struct FusionTests {
  /// A random program over tensors that share rows, with ops in between that are never fused, and its gradients.
  private func record(_ seed: UInt64) throws -> (Graph, [String: Tensor], [String: HostTensor]) {
    var random = Philox(seed: seed, label: "fusion")
    func pick(_ count: Int) -> Int { Int(random.uniform() * Double(count)) }
    let graph = Graph()
    let width = [1, 3, 17, 40][pick(4)]
    let shapes = [
      [2, 3, width], [2, 3, 1], [width], [3, width], [], [2, 1, width], [1, 1, 1], [6, width],
    ]
    var inputs: [String: HostTensor] = [:]
    var pool: [Tensor] = []
    for (index, shape) in shapes.enumerated() {
      let values = (0..<shape.reduce(1, *)).map { _ in Float(random.normal()) }
      inputs["x\(index)"] = try HostTensor(values, shape)
      pool.append(try graph.input("x\(index)", shape))
    }
    for _ in 0..<30 {
      let x = pool[pool.count - 1 - pick(min(pool.count, 8))]
      let y = pool[pick(pool.count)]
      var new: Tensor?
      switch pick(15) {
      case 0: new = try x.sigmoid()
      case 1: new = try x.tanh()
      case 2: new = try x.silu()
      case 3: new = try x * 0.5 + 0.1
      case 4, 5: if Broadcast.shape(x.shape, y.shape) != nil { new = try x + y }
      case 6, 7: if Broadcast.shape(x.shape, y.shape) != nil { new = try (x * y).tanh() }
      case 8: if x.rank > 0 { new = try x.sum([x.rank - 1]) * 0.1 }
      case 9: if x.rank == 3 { new = try x.mean([0, 1]) }
      case 10: if x.rank > 0 { new = try x.softmax() }
      case 11: if x.rank > 0 { new = try x.layerNorm(epsilon: 0.1) }
      case 13:
        if x.shape == [2, 3, 40] {
          new = try x.rotated(
            cos: y.shape == [2, 3, 20] ? y : pool[5].sliced(axis: 2, from: 3, count: 20),
            sin: x.sliced(axis: 2, from: 0, count: 20))
        }
      case 12: if x.rank == 3, x.shape[2] == width { new = try x.reshaped([-1, width]) }
      default:
        if x.rank == 3 {
          new =
            try pick(2) == 0
            ? x.permuted([1, 0, 2]).sliced(axis: 0, from: 0, count: 1) : x.matmul(x, transpose: true).sum([2])
        }
      }
      if let new, new.shape.reduce(1, *) <= 4096 { pool.append(new) }
    }
    var outputs: [String: Tensor] = [:]
    var loss = try graph.constant(0)
    for (index, tensor) in pool.suffix(4).enumerated() {
      outputs["y\(index)"] = tensor
      loss = try loss + (tensor * tensor).mean().reshaped([])
    }
    let gradients = try graph.gradients(of: loss, withRespectTo: Array(pool.prefix(shapes.count)))
    for (index, gradient) in gradients.enumerated() { outputs["g\(index)"] = gradient }
    return (graph, outputs, inputs)
  }

  @Test(arguments: UInt64(0)..<150) func groupsGiveWhatTheirOpsGive(seed: UInt64) throws {
    let (graph, outputs, inputs) = try record(seed)
    func run(_ threads: Int, fuse: Bool) throws -> [String: HostTensor] {
      let store = ParameterStore(CPUBackend(threads: threads))
      return try Program(graph, outputs: outputs, parameters: store, fuse: fuse).run(inputs)
    }
    let plain = try run(1, fuse: false)
    let fused = try run(1, fuse: true)
    #expect(try run(3, fuse: true) == fused)
    for (name, expected) in plain {
      let found = try #require(fused[name])
      let scale = max(1, expected.floats.map { abs($0) }.max() ?? 0)
      for (a, b) in zip(found.floats, expected.floats) where a.isFinite || b.isFinite {
        #expect(abs(a - b) <= 1e-4 * scale, "\(name) of seed \(seed): \(a) for \(b)")
      }
    }
  }

  private func steps(_ record: (Graph) throws -> [String: Tensor]) throws -> [String] {
    let graph = Graph()
    let outputs = try record(graph)
    return try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend())).operations
  }

  @Test func aGatedUnitIsOnePass() throws {
    let found = try steps { graph in
      let gate = try graph.input("gate", [4, 16])
      return ["y": try gate.silu() * graph.input("up", [4, 16])]
    }
    #expect(found == ["fused(silu multiply)"])
  }

  @Test func aNormWithItsWeightAndTheSumBeforeItAreOnePass() throws {
    let found = try steps { graph in
      let sum = try graph.input("x", [4, 16]) + graph.input("branch", [4, 16])
      return ["sum": sum, "y": try sum.rmsNorm(graph.input("weight", [16]))]
    }
    #expect(found == ["fused(add rms-normalize multiply)"])
  }

  @Test func aNormAndARotationArePartsOfOnePass() throws {
    let steps = try steps { graph in
      let x = try graph.input("x", [2, 30, 4, 16]).rmsNorm(graph.input("w", [16]))
      return [
        "y": try x.rotated(cos: graph.input("cos", [1, 30, 1, 8]), sin: graph.input("sin", [1, 30, 1, 8]))
      ]
    }
    #expect(steps == ["fused(rms-normalize multiply rotate)"])
  }

  /// The product stands between what makes its left side and what takes its result: one group of both would need itself.
  @Test func aGroupDoesNotReachAroundAProduct() throws {
    let found = try steps { graph in
      let x = try graph.input("x", [8, 8])
      let a = try x.tanh() * 2
      return ["y": try (a.matmul(x) + a).sigmoid()]
    }
    #expect(found == ["fused(tanh affine)", "matmul", "fused(add sigmoid)"])
  }

  @Test func whatOnlyTheGroupReadsTakesNoMemory() throws {
    func arena(fuse: Bool) throws -> Int {
      let graph = Graph()
      var x = try graph.input("x", [64, 64])
      let y = try graph.input("y", [64, 64])
      for _ in 0..<6 { x = try (x * y).tanh() + x }
      return try Program(graph, outputs: ["x": x], parameters: ParameterStore(CPUBackend()), fuse: fuse)
        .arenaCount
    }
    #expect(try arena(fuse: true) == 64 * 64)
    #expect(try arena(fuse: false) > 64 * 64)
  }

  /// The reference of a group is that of its members, one after another.
  @Test func theReferenceOfAGroupIsItsMembers() throws {
    let graph = Graph()
    let x = try graph.input("x", [3, 5])
    let outputs = ["y": try x.softmax() * x.sum([1]), "z": try x.sum([0]).square()]
    let values = (0..<15).map { Float($0) / 7 - 1 }
    let store = ParameterStore(CPUBackend())
    let results = try Program(graph, outputs: outputs, parameters: store).run([
      "x": HostTensor(values, [3, 5])
    ])
    let double = values.map(Double.init)
    let total = (0..<3).map { row in (0..<5).reduce(0.0) { $0 + double[row * 5 + $1] } }
    let soft = Softmax().reference([double], [[3, 5]])[0]
    for (index, value) in try #require(results["y"]).floats.enumerated() {
      #expect(abs(Double(value) - soft[index] * total[index / 5]) < 1e-5)
    }
    for (column, value) in try #require(results["z"]).floats.enumerated() {
      let sum = (0..<3).reduce(0.0) { $0 + double[$1 * 5 + column] }
      #expect(abs(Double(value) - sum * sum) < 1e-5)
    }
  }

  /// The norm's second output is used by the rule of its gradient, so it needs a rule of its own.
  @Test func aNormHasSecondDerivatives() throws {
    func gradientSize(_ values: [Float]) throws -> (Float, [Float]) {
      let graph = Graph()
      let x = try graph.parameter("x", [2, 3])
      let weight = try graph.constant([1, -2, 0.5, 3, 1, -1], [2, 3])
      let loss = try (x.layerNorm(epsilon: 0.1) * weight).total()
      let first = try graph.gradients(of: loss, withRespectTo: [x])[0]
      let size = try first.square().total()
      let second = try graph.gradients(of: size, withRespectTo: [x])[0]
      let store = ParameterStore(CPUBackend())
      try store.set("x", HostTensor(values, [2, 3]))
      let results = try Program(graph, outputs: ["size": size, "second": second], parameters: store).run()
      return (try #require(results["size"]).floats[0], try #require(results["second"]).floats)
    }
    let values: [Float] = [0.3, -0.8, 1.1, 0.2, 0.9, -0.4]
    let exact = try gradientSize(values).1
    for i in values.indices {
      var (up, down) = (values, values)
      up[i] += 0.01
      down[i] -= 0.01
      let slope = try (gradientSize(up).0 - gradientSize(down).0) / 0.02
      #expect(abs(slope - exact[i]) < 0.02 * max(1, abs(exact[i])), "\(i): \(exact[i]) for \(slope)")
    }
  }

  /// The same gradients, bit for bit, in less memory, when the layers are computed again.
  @Test func recomputingKeepsLess() throws {
    func run(_ again: Bool) throws -> ([String: HostTensor], Int) {
      let graph = Graph()
      let weights = try (0..<6).map { try graph.parameter("w\($0)", [32, 32]) }
      var x = try graph.parameter("x", [64, 32])
      for weight in weights {
        let input = x
        func layer() throws -> Tensor {
          try input + (input.matmul(weight).tanh().matmul(weight) * 0.1).sigmoid()
        }
        x = again ? try graph.recomputing(layer) : try layer()
      }
      let gradients = try graph.gradients(of: x.square().total(), withRespectTo: weights)
      let store = ParameterStore(CPUBackend())
      var random = Philox(seed: 1, label: "recomputing")
      for i in 0..<6 {
        try store.set("w\(i)", HostTensor((0..<1024).map { _ in Float(random.normal()) * 0.1 }, [32, 32]))
      }
      try store.set("x", HostTensor((0..<2048).map { _ in Float(random.normal()) }, [64, 32]))
      let outputs = Dictionary(uniqueKeysWithValues: gradients.enumerated().map { ("g\($0)", $1) })
      let program = try Program(graph, outputs: outputs, parameters: store)
      return (try program.run(), program.arenaCount)
    }
    let (kept, much) = try run(false)
    let (again, little) = try run(true)
    #expect(kept == again)
    #expect(little * 3 < much * 2, "\(little) of \(much)")
  }

  /// Instructions are all that an op needs to run, alone and among others, on something and on nothing.
  @Test(arguments: [true, false]) func anOpWithoutAKernelIsAGroupOfItsOwn(fuse: Bool) throws {
    let graph = Graph()
    let x = try graph.input("x", [5])
    let double = try graph.apply(Doubling(), [x])[0]
    let none = try graph.apply(Doubling(), [graph.input("none", [0, 2])])[0]
    let outputs = ["y": double, "z": try double.matmulColumn(), "none": none]
    let program = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend()), fuse: fuse)
    let results = try program.run([
      "x": HostTensor([1, -2, 0, 0.5, 3], [5]), "none": HostTensor([Float](), [0, 2]),
    ])
    #expect(results["y"]?.floats == [2, -4, 0, 1, 6])
    #expect(results["z"]?.floats == [57])
    #expect(results["none"]?.shape == [0, 2])
  }
}

/// An op that is nothing but instructions.
private struct Doubling: RowOp {
  var name: String { "doubling" }
  var isAlwaysFused: Bool { true }
  func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] { inputs }
  func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [try context.g * 2] }
  func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { [inputs[0].map { 2 * $0 }] }
  func form(_ inputs: [[Int]]) -> RowForm? { .elementwise([Pattern(dense: inputs[0])]) }
  func lower(
    _ inputs: [Int], as outputs: [Value], _ extent: RowProgram.Extent, in builder: inout RowBuilder
  ) {
    builder.emit(.binary(.add), extent, inputs[0], inputs[0], as: outputs[0])
  }
}

extension Tensor {
  /// Its product with itself: an op that is never fused.
  fileprivate func matmulColumn() throws(TensorError) -> Tensor {
    try reshaped([1, -1]).matmul(reshaped([1, -1]), transpose: true).reshaped([])
  }
}
