import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Synchronization
import Testing

/// Batches made and copied beside what the device computes.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct StagingTests {
  private static func program(_ backend: any Backend) throws -> Program {
    let graph = Graph()
    let x = try graph.input("x", [6, 300])
    let index = try graph.input("index", [4], .int32)
    return try Program(
      graph, outputs: ["sums": x.tanh().sum([1]), "rows": x.rows(at: index)],
      parameters: ParameterStore(backend))
  }

  private static func values(_ number: Int) throws -> [String: HostTensor] {
    [
      "x": try HostTensor((0..<1800).map { Float(($0 * 7 + number * 31) % 23) / 8 - 1 }, [6, 300]),
      "index": try HostTensor((0..<4).map { Int32(($0 + number) % 6) }, [4]),
    ]
  }

  /// Whatever of two streams comes first where nothing orders them.
  @Test(arguments: ["lazy", "eager"]) func inputsThatCameBesideAStepAreThoseOfTheNext(order: String) async {
    await #expect(processExitsWith: .success) { [order] in
      setenv("FLOW_SHIM_STREAMS", order, 1)
      try #require(Shim.isThere)
      let program = try StagingTests.program(CUDABackend(precision: .float32))
      let plain = try StagingTests.program(CUDABackend(precision: .float32))
      for number in 0..<5 {
        let finish = try program.start(StagingTests.values(number))
        // The third is staged and then isn't what is wanted.
        try program.stage(StagingTests.values(number == 2 ? 9 : number + 1))
        #expect(try finish() == plain.run(StagingTests.values(number)), "\(number)")
      }
    }
  }

  @Test func whatIsStagedIsCheckedAsWhatIsRun() throws {
    let program = try StagingTests.program(CUDABackend(precision: .float32))
    for bad in [
      ["x": try HostTensor([Float](repeating: 0, count: 6), [6, 1])],
      ["index": try HostTensor([Int32(0), 1, 2, 6], [4])],
    ] {
      #expect(throws: TensorError.self) { try program.stage(bad) }
    }
    let good = try StagingTests.values(0)
    #expect(try program.run(good)["rows"]?.floats.prefix(300) == good["x"]?.floats.prefix(300))
  }

  /// Both programs lie in the store's one memory of intermediate values.
  @Test func aProgramThatBeganNextLeavesTheOutputsOfTheOneBefore() throws {
    let store = ParameterStore(try CUDABackend(precision: .float32))
    let programs = try [2, 3].map { factor in
      let graph = Graph()
      let x = try graph.input("x", [2000])
      return try Program(graph, outputs: ["y": (x * Float(factor)).tanh() + 1], parameters: store)
    }
    let ones = ["x": try HostTensor([Float](repeating: 1, count: 2000), [2000])]
    let ends = try programs.map { try $0.start(ones) }
    for (factor, end) in zip([Float(2), 3], ends) {
      let y = try end()["y"]?.floats ?? []
      #expect(y.count == 2000 && y.allSatisfy { abs($0 - tanh(factor) - 1) < 1e-6 })
    }
  }

  /// The batch of a step is made once, in order, and the losses are those of a training that makes each when it is due.
  @Test func batchesAreMadeAheadOfTheirSteps() throws {
    let asked = Mutex<[Int]>([])
    let ahead = try SmallTraining.loop(on: CUDABackend(precision: .float32), steps: 5) { number in
      asked.withLock { $0.append(number) }
    }
    var seen: [[Int]] = []
    try ahead.run { _ in seen.append(asked.withLock { $0 }) }
    #expect(seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    let due = try SmallTraining.loop(on: CUDABackend(precision: .float32), steps: 5)
    for number in 0..<5 {
      let loss = try due.take(due.batch(ofStep: number), step: number)["loss"]
      #expect(loss == ahead.history[number].loss)
    }
  }

  /// One that fails ends the training at its own step, not at the one that was being taken.
  @Test func aBatchThatCanNotBeMadeEndsTheTrainingThere() throws {
    struct Lacking: Error {}
    let loop = try SmallTraining.loop(on: CUDABackend(precision: .float32), steps: 5) { number in
      if number == 3 { throw Lacking() }
    }
    #expect(throws: Lacking.self) { try loop.run() }
    #expect(loop.nextStep == 3)
  }
}

/// Two threads with one backend.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct TwoThreadsTests {
  /// What one of them records has nothing of what the other does meanwhile.
  @Test func programsPreparedAndRunAtOnceDoNotMix() async throws {
    let backend = try CUDABackend(precision: .float32)
    @Sendable func work(_ seed: Int) throws -> [[Float]] {
      try (0..<12).map { round in
        let graph = Graph()
        let x = try graph.input("x", [24, 40])
        let store = ParameterStore(backend)
        let weight = try HostTensor((0..<960).map { Float(($0 * 5 + seed + round) % 13) / 8 }, [40, 24])
        try store.set("w", weight)
        let y = try x.matmul(graph.parameter("w", [40, 24])).tanh().sum([1])
        let program = try Program(graph, outputs: ["y": y], parameters: store)
        var result: [Float] = []
        for run in 0..<3 {
          let values = (0..<960).map { Float(($0 * 3 + seed * run) % 11) / 16 - 0.3 }
          result += try program.run(["x": HostTensor(values, [24, 40])])["y"]?.floats ?? []
        }
        return result
      }
    }
    let alone = try [3, 4, 5].map(work)
    let together = try await withThrowingTaskGroup(of: (Int, [[Float]]).self) { group in
      for (index, seed) in [3, 4, 5].enumerated() { group.addTask { (index, try work(seed)) } }
      var found = [[[Float]]](repeating: [], count: 3)
      for try await (index, result) in group { found[index] = result }
      return found
    }
    #expect(together == alone && alone[0] != alone[1])
  }
}
