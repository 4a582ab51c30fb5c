import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Testing

/// Where the time of a program goes.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct ProfileTests {
  private static func backends() throws -> [any Backend] {
    [try CUDABackend(precision: .float32), CPUBackend()]
  }
  private static func ramp(_ shape: [Int]) throws -> HostTensor {
    try HostTensor((0..<shape.reduce(1, *)).map { Float($0 % 23) / 8 - 1 }, shape)
  }

  @Test func mergedStepsAreOneWithTheBytesOfAll() throws {
    let loop = try SmallTraining.loop(on: CUDABackend(precision: .float32))
    _ = try loop.take(loop.batch(ofStep: 0), step: 0)
    let kinds = try loop.programs[0].program.profile(runs: 1)
    let elements = SmallTraining.momentBytes / 4
    let steps = try #require(kinds.first { $0.op == "adamw" })
    #expect(steps.count == 1 && steps.steps == 3)
    // Parameter, gradient and two moments are read, and all but the gradient written; the scalars are four for all.
    #expect(steps.bytes == 7 * 4 * elements + 16)
    #expect(steps.flops == 14 * elements)
    // On the CPU each is a step of its own, and reads its scalars.
    let alone = try SmallTraining.loop(on: CPUBackend())
    _ = try alone.take(alone.batch(ofStep: 0), step: 0)
    let found = try alone.programs[0].program.profile(runs: 1).filter { $0.op == "adamw" }
    #expect(found.map(\.count) == [1, 1, 1])
    #expect(found.reduce(0) { $0 + $1.bytes } == steps.bytes + 2 * 16)
  }

  @Test func kindsAreToldApartByTypeAndLikesAreOne() throws {
    for backend in try ProfileTests.backends() {
      let graph = Graph()
      var outputs: [String: Tensor] = [:]
      for (index, type) in [DType.float32, .bfloat16, .float32].enumerated() {
        outputs["\(index)"] = try graph.input("\(index)", [24, 40], type).permuted([1, 0])
      }
      let program = try Program(graph, outputs: outputs, parameters: ParameterStore(backend))
      for kinds in [try program.profile(runs: 1), try program.profile(runs: 2, together: 9, least: 1)] {
        let sorted = kinds.sorted { $0.count < $1.count }
        #expect(sorted.map(\.count) == [1, 2])
        #expect(sorted.map { $0.inputs.map(\.description) } == [["[24, 40] bfloat16"], ["[24, 40] float32"]])
        #expect(sorted.map(\.bytes) == [2 * 2 * 960, 2 * 2 * 4 * 960])
      }
    }
  }

  @Test func onlyWhatUsesEnoughMemoryIsTimedTogether() throws {
    for backend in try ProfileTests.backends() {
      let graph = Graph()
      let outputs = [
        "wide": try graph.input("x", [24, 40]).permuted([1, 0]),
        "narrow": try graph.input("y", [24, 40], .bfloat16).permuted([1, 0]),
      ]
      let program = try Program(graph, outputs: outputs, parameters: ParameterStore(backend))
      func timed(_ most: Int, _ least: Int) throws -> [DType] {
        let kinds = try program.profile(runs: 1, together: most, least: least)
        #expect(kinds.count == 2 && kinds.allSatisfy { $0.together ?? 0 >= 0 })
        return kinds.filter { $0.together != nil }.map { $0.inputs[0].dtype }
      }
      #expect(Set(try timed(9, 2 * 2 * 960)) == [.float32, .bfloat16])
      #expect(try timed(9, 2 * 2 * 960 + 1) == [.float32])
      #expect(try timed(9, 2 * 4 * 960) == [.float32])
      #expect(try timed(9, 2 * 4 * 960 + 1) == [])
      #expect(try timed(1, 1).count == 1)
      #expect(try timed(0, 0) == [])
    }
  }

  @Test func whatTheCacheHoldsIsTakenOffWhereTheBackendCan() throws {
    for backend in try ProfileTests.backends() {
      let graph = Graph()
      // Large enough not to be repeated: the stand-in takes long to read thrice its cache.
      let (x, y) = (try graph.input("x", [480, 800]), try graph.input("y", [800, 2]))
      let outputs = ["product": try x.matmul(y), "copy": try x.permuted([1, 0])]
      let program = try Program(graph, outputs: outputs, parameters: ParameterStore(backend))
      let inputs = ["x": try ProfileTests.ramp([480, 800]), "y": try ProfileTests.ramp([800, 2])]
      let before = try program.run(inputs).mapValues(\.floats)
      let moved = 2 * 4 * 480 * 800
      let kinds = try program.profile(runs: 1, together: 2, least: moved + 1, cold: moved)
      #expect(kinds.count == 2 && kinds.allSatisfy { $0.together == nil })
      #expect(kinds.map { $0.cold != nil } == kinds.map { !$0.isProduct && backend is CUDABackend })
      let more = try program.profile(runs: 1, together: 2, cold: moved + 1)
      #expect(more.allSatisfy { $0.together != nil && $0.cold == nil })
      #expect(try program.run(inputs).mapValues(\.floats) == before)
    }
  }

  @Test func noParameterIsSpoiledAndARunGivesWhatItGave() throws {
    for backend in try ProfileTests.backends() {
      let store = ParameterStore(backend)
      try store.set("w", try ProfileTests.ramp([24, 40]))
      let graph = Graph()
      let (w, x) = (try graph.parameter("w", [24, 40]), try graph.input("x", [24, 40]))
      // Values that lie where others lay, and a parameter that the last of them is added to as it is made.
      var value = x
      for _ in 0..<6 { value = try value.reshaped([40, 24]).permuted([1, 0]) }
      try graph.assign(w, w + value)
      let program = try Program(graph, outputs: ["y": value], parameters: store)
      let inputs = ["x": try ProfileTests.ramp([24, 40])]
      let first = try program.run(inputs)["y"]?.floats
      let kinds = try program.profile(runs: 3, together: 9, least: 1)
      let writer = try #require(kinds.first { $0.op.contains("add") })
      #expect(writer.together == nil)
      #expect(kinds.filter { $0.together != nil }.map(\.count).reduce(0, +) == 5)
      let again = try program.run(inputs)["y"]?.floats
      #expect(first != nil && again == first)
      // One run before, three alone, one after.
      var wanted = try ProfileTests.ramp([24, 40]).floats
      for _ in 0..<5 { wanted = zip(wanted, first ?? []).map(+) }
      #expect(try store.get("w").floats == wanted)
    }
  }

  @Test func whatReadsComputedIndicesIsNotRunOutOfTurn() throws {
    for backend in try ProfileTests.backends() {
      let graph = Graph()
      let x = try graph.input("x", [8, 40])
      let given = try x.taken(1, at: graph.input("i", [8, 3], .int32))
      let outputs = ["computed": try x.taken(1, at: x.argmax(1)), "given": given]
      let program = try Program(graph, outputs: outputs, parameters: ParameterStore(backend))
      _ = try program.run([
        "x": try ProfileTests.ramp([8, 40]), "i": try HostTensor([Int32](repeating: 39, count: 24), [8, 3]),
      ])
      let kinds = try program.profile(runs: 1, together: 9, least: 1)
      func isTogether(_ width: Int) -> [Bool] {
        kinds.filter { $0.inputs.last?.shape == [8, width] && $0.inputs.count == 2 }.map {
          $0.together != nil
        }
      }
      #expect(isTogether(1) == [false])
      #expect(isTogether(3) == [true])
    }
  }

  /// A process of its own, as others take memory too.
  @Test func copiesHaveARateAndLeaveTheMemoryAsItWas() async {
    await #expect(processExitsWith: .success) {
      try #require(Shim.isThere)
      let backend = try CUDABackend(precision: .float32)
      let before = try backend.memory().free
      let rates = try backend.copyRates([1 << 12, 1 << 14, 3 << 12])
      #expect(rates.count == 3 && rates.allSatisfy { $0 > 0 && $0.isFinite })
      #expect(try backend.memory().free == before)
      #expect(throws: TensorError.self) { try backend.copyRates([1 << 50]) }
    }
  }
}
