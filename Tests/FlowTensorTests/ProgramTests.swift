import FlowTensorCPU
import Testing

@testable import FlowTensor

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

  /// An input is copied only when its memory isn't that of the last run; memory that was freed in between may have its address.
  @Test func everyRunSeesItsOwnInputs() throws {
    let graph = Graph()
    let x = try graph.input("x", [1000])
    let program = try Program(
      graph, outputs: ["y": x.total()], parameters: ParameterStore(CPUBackend(threads: 1)))
    for number in 0..<50 {
      let fresh = [Float](repeating: Float(number), count: 1000)
      let found = try program.run(["x": try HostTensor(fresh, [1000])])["y"]?.floats
      #expect(found == [Float(number) * 1000])
    }
    var values = [Float](repeating: 1, count: 1000)
    let first = try HostTensor(values, [1000])
    #expect(try program.run(["x": first])["y"]?.floats == [1000])
    #expect(try program.run(["x": first])["y"]?.floats == [1000])
    values[3] = 11
    #expect(try program.run(["x": try HostTensor(values, [1000])])["y"]?.floats == [1010])
    #expect(try program.run(["x": first])["y"]?.floats == [1000])
  }

  /// Programs of one store run by turns in one piece of memory, which a larger one than the first doesn't fit.
  @Test func aSmallerProgramTakesNoMemoryOfItsOwn() throws {
    let store = ParameterStore(CPUBackend())
    func program(_ count: Int) throws -> Program {
      let graph = Graph()
      return try Program(graph, outputs: ["y": graph.input("x", [count]).exp()], parameters: store)
    }
    func arena(_ program: Program) -> (any DeviceBuffer)? { program.steps.last?.outputs[0].slot.buffer }
    let (middle, small, large) = (try program(100), try program(10), try program(1000))
    #expect(arena(middle) === arena(small) && arena(middle) !== arena(large))
    for _ in 0..<2 {
      for (program, count) in [(middle, 100), (small, 10), (large, 1000)] {
        let zeros = try HostTensor([Float](repeating: 0, count: count), [count])
        #expect(try program.run(["x": zeros])["y"]?.floats == [Float](repeating: 1, count: count))
      }
    }
  }

  /// A product that reads a group which is only finished at the end waits for it. Were the group brought forward, all that it
  /// needs would come before what else reads each link of the chain, and be kept until then.
  @Test func whatNeedsALateGroupBringsNothingForward() throws {
    let graph = Graph()
    let (c, w) = (try graph.input("c", [64, 64]), try graph.input("w", [64, 64]))
    var outputs = ["early": try c.silu().matmul(w)]
    let gate = try c.sigmoid()
    var link = c
    for number in 0..<12 {
      link = try link.matmul(w)
      outputs["read \(number)"] = try link.matmul(w, transpose: true).total()
    }
    outputs["late"] = try gate + link
    let program = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend()))
    #expect(program.operations.contains { $0.contains("silu") && $0.contains("add") }, "\(program.listing)")
    #expect(program.arenaCount < 8 * 64 * 64, "\(program.listing)")
  }

  /// Where a program's memory is fullest: three products wait for a fourth that is made of them.
  @Test func whatIsAliveAtTheFullestIsListed() throws {
    let graph = Graph()
    let x = try graph.input("x", [32, 32])
    let parts = try (0..<3).map { number in
      try graph.scope("parts.\(number)") { () throws(TensorError) in try x.matmul(x, transpose: number == 1) }
    }
    let sums = try parts.map { (part) throws(TensorError) in try part.matmul(x) }
    let joined = try Tensor.concatenated(parts + sums, axis: 0).matmul(x).total()
    let program = try Program(graph, outputs: ["y": joined], parameters: ParameterStore(CPUBackend()))
    let lines = program.listing.split(separator: "\n")
    let head = try #require(lines.firstIndex { $0.hasPrefix("fullest at step ") }, "\(program.listing)")
    // Six of 4 KiB, joined; then the joined ones and their product.
    #expect(lines[head].hasSuffix(", concatenate: 48 KiB alive"))
    #expect(
      lines[(head + 1)...] == [
        "  24 KiB  1 x [192, 32] of concatenate", "  12 KiB  3 x [32, 32] of matmul",
        "  12 KiB  3 x [32, 32] of matmul  parts.*",
      ])
  }
}
