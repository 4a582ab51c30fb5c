import FlowCore
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
      switch pick(14) {
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
}
