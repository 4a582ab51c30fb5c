import FlowCore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// Trials of ways to do a step. A process each, with choices of its own.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here")) struct StepTrialTests {
  /// Backends whose choices lie in one folder.
  private final class Place: Sendable {
    let folder = NSTemporaryDirectory() + "flow-trials-\(UUID().uuidString)"

    init() throws {
      setenv("FLOW_KERNEL_CACHE", folder, 1)
      CUDALibraries.use(try #require(CUDAShim.folder))
    }
    func backend(limit: Duration = .seconds(1000)) throws -> CUDABackend {
      CUDABackend(try CUDADevice(0), .float32) {
        TrialChoices(device: $0, folder: folder, limit: limit, leastBytes: 0) { Issue.record("\($0)") }
      }
    }
    deinit { try? FileManager.default.removeItem(atPath: folder) }
  }

  /// Twice x, after as many useless turns as it is told; or a little more.
  private static let text = """
    KERNEL(256) twice(float *y, const float *x, int count, int turns, float more) {
      int i = blockIdx.x * 256 + threadIdx.x;
      if (i >= count) return;
      volatile float value = x[i];
      for (int k = 0; k < turns; k++) value = value;
      y[i] = value * 2 + (i == 77 ? more : 0.0f);
    }
    """

  /// Ways to double numbers: `ways` are the turns that each makes, and what it adds in one place.
  private static func doubling(_ ways: [(turns: Int, more: Float)]) -> StepTrial {
    let x = Operand(address: 256, shape: [1000], dtype: .float32)
    let y = Operand(address: 8192, shape: [1000], dtype: .float32)
    // The same memory as another operand, which is shorter.
    let start = Operand(address: 256, shape: [8], dtype: .float32)
    let context = StepContext(inputs: [start, x], outputs: [y], multiprocessors: 4, capability: 80)
    return StepTrial(context: context) { context in
      let works = ways.map { way in
        Work(launches: [
          Launch(
            Kernel(text: text, "twice"), grid: (4, 1, 1), threads: 256,
            [
              context.outputs[0].argument, context.inputs[1].argument, .int(1000), .int(Int32(way.turns)),
              .float(way.more),
            ])
        ])
      }
      var work = works[0]
      work.alternatives = Array(works.dropFirst())
      return work
    }
  }

  @Test func theFastestOfTheSameBitsIsTaken() async {
    await #expect(processExitsWith: .success) {
      let backend = try Place().backend()
      try backend.compiler.prepare(
        Trial.kernels(["float"]).union([Kernel(text: StepTrialTests.text, "twice")]))
      func outcome(_ ways: [(turns: Int, more: Float)]) throws -> Trial.Outcome? {
        let trial = StepTrialTests.doubling(ways)
        return try trial.outcome(backend.device, backend.compiler, within: .seconds(1000))
      }
      // Slow; of other bits, and the fastest; slower; fast.
      let found = try #require(try outcome([(200_000, 0), (1, 0.001), (400_000, 0), (1, 0)]))
      #expect(found.taken == 3 && found.times.keys.sorted() == [0, 2, 3])
      // Nothing is better than the first.
      #expect(try outcome([(1, 0), (1, 0.001), (400_000, 0)])?.taken == 0)
      // Or nothing else is there.
      #expect(try outcome([(1, 0)])?.taken == 0)
      let trial = StepTrialTests.doubling([(200_000, 0), (1, 0)])
      #expect(try trial.outcome(backend.device, backend.compiler, within: .zero) == nil)
    }
  }

  /// Two norms of a shape, and one of another.
  private static func result(_ backend: CUDABackend) throws -> [Float] {
    let graph = Graph()
    let (x, y) = (try graph.input("x", [37, 264]), try graph.input("y", [37, 264]))
    let (z, w) = (try graph.input("z", [41, 264]), try graph.input("w", [264]))
    let program = try Program(
      graph, outputs: ["x": x.rmsNorm(w), "y": y.rmsNorm(w), "z": z.rmsNorm(w)],
      parameters: ParameterStore(backend))
    var random = Philox(seed: 3)
    func values(_ shape: [Int]) throws -> HostTensor {
      try HostTensor((0..<shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }, shape)
    }
    let found = try program.run([
      "x": values([37, 264]), "y": values([37, 264]), "z": values([41, 264]), "w": values([264]),
    ])
    return found.sorted { $0.key < $1.key }.flatMap { $0.value.floats }
  }

  @Test func whatIsTakenIsRememberedByKind() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let idle = try place.backend(limit: .zero)
      let plain = try StepTrialTests.result(idle)
      #expect(idle.trials.all.isEmpty && idle.notesOfTrials.isEmpty && plain.count == 115 * 264)

      let backend = try place.backend()
      #expect(try StepTrialTests.result(backend) == plain)
      #expect(backend.trials.all.count == 2 && backend.notesOfTrials.count == 2)
      #expect(backend.notesOfTrials.allSatisfy { $0.contains(" ms") })
      // Another process only reads; whichever it reads, the result is the same.
      for index: UInt64 in [0, 1, 2] {
        for kind in backend.trials.all.keys { backend.trials.remember(kind, [index]) }
        backend.trials.save()
        let next = try place.backend()
        #expect(try StepTrialTests.result(next) == plain)
        #expect(next.notesOfTrials.count == (index == 0 ? 0 : 2))
        #expect(next.notesOfTrials.allSatisfy { $0.hasSuffix("as tried before") })
      }
      // What is no way is tried again.
      for kind in backend.trials.all.keys { backend.trials.remember(kind, [77]) }
      backend.trials.save()
      let next = try place.backend()
      #expect(try StepTrialTests.result(next) == plain)
      #expect(next.notesOfTrials.count == 2 && next.trials.all.values.allSatisfy { $0[0] < 77 })
    }
  }

  @Test func theyCanBeSwitchedOff() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let plain = try StepTrialTests.result(try place.backend(limit: .zero))
      let backend = try place.backend()
      _ = try StepTrialTests.result(backend)
      for kind in backend.trials.all.keys { backend.trials.remember(kind, [1]) }
      backend.trials.save()
      setenv("FLOW_TRIALS", "0", 1)
      let off = try place.backend()
      #expect(try StepTrialTests.result(off) == plain && off.notesOfTrials.isEmpty)
    }
  }
}
