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
}
