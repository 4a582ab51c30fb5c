import FlowCore
import FlowTensorCPU
import Testing

@testable import FlowTensor

@Suite struct CastTests {
  /// The kernel's numbers for `values`, cast to `type` and back.
  private func kept(_ values: [Float], as type: DType) throws -> [Float] {
    let graph = Graph()
    let y = try graph.input("x", [values.count]).cast(to: type)
    let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend(threads: 2)))
    return try #require(program.run(["x": HostTensor(values, [values.count])])["y"]).floats
  }

  /// Numbers at and beside every place where something changes.
  private var edges: [Float] {
    var values: [Float] = [
      .nan, -.nan, .infinity, -.infinity, 0, -0.0, .greatestFiniteMagnitude, .leastNonzeroMagnitude,
    ]
    for edge: Float in [
      65504, 65519.996, 65520, 65536, 6.1035156e-05, 6.0975552e-05, 5.9604645e-08, 2.9802322e-08, 1, 2049,
      2051, 1.00390625, 1.01171875, 3.3961775e38, 0.5, 1.5, 2.5, 2_147_483_520, 2_147_483_648, 1e30,
    ] { values += [edge, edge.nextUp, edge.nextDown, -edge, (-edge).nextUp, (-edge).nextDown] }
    var random = Philox(seed: 4)
    for _ in 0..<100_000 { values.append(Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))) }
    return values
  }

  /// The kernels, which compute with integers, against the language's own conversions.
  @Test(arguments: DType.allCases) func kernelsRoundAsTheTypesDo(_ type: DType) throws {
    let values = edges
    let found = try kept(values, as: type)
    for (x, y) in zip(values, found) {
      let want = Float(type.rounded(Double(x)))
      #expect(y.bitPattern == want.bitPattern || y.isNaN && want.isNaN, "\(x) became \(y), not \(want)")
    }
  }

  @Test func everyHalfIsWidenedExactly() throws {
    let bits = (0...UInt16.max).map { $0 }
    for (type, values, widen) in [
      (DType.float16, HostTensor.Values.float16(bits), Half.half as (UInt16) -> Float),
      (.bfloat16, .bfloat16(bits), Half.bfloat as (UInt16) -> Float),
    ] {
      let graph = Graph()
      let y = try graph.input("x", [bits.count], type).cast(to: .float32)
      let program = try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
      let found = try #require(program.run(["x": HostTensor(values, [bits.count])])["y"]).floats
      #expect(
        zip(bits, found).allSatisfy { $1.bitPattern == widen($0).bitPattern || $1.isNaN && widen($0).isNaN })
    }
  }

  /// w in 16 bits: the product and x's gradient use the rounded w, in float32; w's own gradient is float32.
  @Test(arguments: [DType.bfloat16, .float16]) func parametersStayInSixteenBits(_ type: DType) throws {
    var random = Philox(seed: 9)
    func draw(_ shape: [Int]) throws -> HostTensor {
      try HostTensor((0..<shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }, shape)
    }
    let (x, w) = (try draw([5, 7]), try draw([3, 7]))
    func run(_ weight: HostTensor) throws -> [String: HostTensor] {
      let store = ParameterStore(CPUBackend())
      try store.set("w", weight)
      #expect(store.dtype("w") == weight.dtype)
      let graph = Graph()
      let (a, b) = (try graph.input("x", [5, 7]), try graph.parameter("w", [3, 7], weight.dtype))
      let y = try a.linear(b, nil)
      let slopes = try graph.gradients(of: y.square().total(), withRespectTo: [a, b])
      let program = try Program(
        graph, outputs: ["y": y, "dx": slopes[0], "dw": slopes[1]], parameters: store)
      return try program.run(["x": x])
    }
    let narrow = w.cast(to: type)
    #expect(narrow.floats != w.floats)
    #expect(try run(narrow) == run(narrow.cast(to: .float32)))
  }

  /// What is kept in 16 bits for the backward pass takes half the memory, and is widened again there.
  @Test func keptValuesTakeHalfTheMemory() throws {
    func arena(_ type: DType) throws -> Int {
      let graph = Graph()
      var x = try graph.input("x", [64, 512])
      let start = x
      for _ in 0..<8 {
        let kept = try x.cast(to: type)
        x = try kept.matmul(kept, transpose: true).matmul(kept)
      }
      let slope = try graph.gradients(of: x.total(), withRespectTo: [start])[0]
      return try Program(graph, outputs: ["s": slope], parameters: ParameterStore(CPUBackend())).arenaCount
    }
    let (wide, narrow) = (try arena(.float32), try arena(.bfloat16))
    // Seven of [64, 512] are kept.
    #expect(wide - narrow >= 5 * 64 * 512 / 2, "\(wide) and \(narrow) words")
  }

  @Test func typesThatDontFitAreRefused() throws {
    let graph = Graph()
    let (wide, narrow) = (try graph.input("a", [2]), try graph.input("b", [2], .bfloat16))
    let joined = #expect(throws: TensorError.self) { try Tensor.concatenated([wide, narrow], axis: 0) }
    #expect(
      joined?.description
        == "concatenate: all of its inputs are of one type, but the types are float32, bfloat16")
    #expect(throws: TensorError.self) { try graph.parameter("p", [2], .float16) + graph.parameter("p", [2]) }
    let store = ParameterStore(CPUBackend())
    try store.set("q", HostTensor([1, 2] as [Float], [2]))
    let other = Graph()
    let y = try other.parameter("q", [2], .bfloat16).cast(to: .float32)
    let error = #expect(throws: TensorError.self) { try Program(other, outputs: ["y": y], parameters: store) }
    #expect(error?.description == "parameter 'q' is float32, the program wants bfloat16")
    let third = Graph()
    let program = try Program(
      third, outputs: ["y": third.input("m", [2], .bool).cast(to: .float32)], parameters: store)
    let input = #expect(throws: TensorError.self) {
      try program.run(["m": HostTensor([1, 0] as [Float], [2])])
    }
    #expect(input?.description == "input 'm' must be bool, not float32")
  }

  /// A value that isn't float32 is assigned too; a parameter keeps its type whatever it is set from.
  @Test func assignmentsKeepTheType() throws {
    let graph = Graph()
    let p = try graph.parameter("p", [300], .bfloat16)
    try graph.assign(p, (p + 1).cast(to: .bfloat16))
    let store = ParameterStore(CPUBackend())
    try store.set("p", HostTensor([Float](repeating: 1, count: 300), [300]).cast(to: .bfloat16))
    let program = try Program(graph, outputs: [:], parameters: store)
    for _ in 0..<2 { _ = try program.run() }
    #expect(try store.get("p") == HostTensor([Float](repeating: 3, count: 300), [300]).cast(to: .bfloat16))
    try store.set("p", HostTensor([Float](repeating: 0.1, count: 300), [300]))
    #expect(try store.get("p").floats[0] == Float(DType.bfloat16.rounded(0.1)))
    #expect(throws: TensorError.self) { try graph.assign(p, p + 1) }
  }
}
