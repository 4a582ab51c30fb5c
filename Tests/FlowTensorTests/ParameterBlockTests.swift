import FlowTensor
import FlowTensorCPU
import Testing

@Suite struct ParameterBlockTests {
  private func store() throws -> ParameterStore {
    let store = ParameterStore(CPUBackend())
    try store.make(block: "all", of: [("a", [3]), ("b", [2, 17]), ("c", [])])
    return store
  }

  @Test func partsLieInTheBlockAndProgramsWriteThere() throws {
    let store = try store()
    #expect(store.shape("all") == [16 + 48 + 16] && store.shape("b") == [2, 17])
    try store.set("c", HostTensor([Float(7)], []))
    let graph = Graph()
    let b = try graph.parameter("b", [2, 17])
    try graph.assign(b, b + graph.input("x", [2, 17]))
    let x = (0..<34).map(Float.init)
    _ = try Program(graph, outputs: [:], parameters: store).run(["x": HostTensor(x, [2, 17])])
    #expect(try store.get("a").floats == [0, 0, 0] && store.get("b").floats == x)
    let all = try store.get("all").floats
    #expect(Array(all[16..<50]) == x && all[64] == 7)
  }

  @Test func anUpdateComesInPiecesAndReachesEveryElement() throws {
    let store = try store()
    var sizes: [Int] = []
    try store.update("all", piece: 32) { values in
      sizes.append(values.count)
      for i in values.indices { values[i] += 1 }
    }
    #expect(sizes == [32, 32, 16])
    #expect(try store.get("b").floats == [Float](repeating: 1, count: 34) && store.get("c").floats == [1])
  }

  @Test func whatIsThereIsNotMadeAgain() throws {
    let store = try store()
    #expect(throws: TensorError.self) { try store.make(block: "more", of: [("d", [1]), ("a", [3])]) }
    #expect(store.shape("more") == nil && store.shape("d") == nil)
  }
}
