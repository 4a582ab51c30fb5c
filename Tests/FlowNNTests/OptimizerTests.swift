import FlowNN
import FlowTensor
import FlowTensorCPU
import Foundation
import Testing

@Suite struct ScheduleTests {
  @Test func warmUpStartsAtZeroAndCosineEndsAtZero() {
    var settings = OptimizerSettings(learningRate: 2e-3, total: 20)
    settings.warmup = 4
    #expect(settings.rate(0) == 0)
    #expect(settings.rate(2) == 1e-3)
    #expect(settings.rate(4) == 2e-3)
    #expect(abs(settings.rate(12) - 1e-3) < 1e-12)
    #expect(settings.rate(20) < 1e-12)
    settings.schedule = .linear
    #expect(abs(settings.rate(12) - 1e-3) < 1e-12)
  }

  @Test func theConstantScheduleStaysAfterItsWarmUp() {
    var settings = OptimizerSettings(learningRate: 4, total: 10)
    settings.schedule = .constant
    settings.warmup = 2
    #expect((0..<5).map(settings.rate) == [0, 2, 4, 4, 4])
  }
}

/// Steps on a loss whose gradient is the input c, against closed forms.
@Suite struct OptimizerTests {
  private let start = [Double](arrayLiteral: 1, -2)

  /// The weights, and their averages if kept, after steps with the gradients `slopes`, one list of batches a step.
  private func train(
    _ settings: OptimizerSettings, _ slopes: [[[Float]]]
  ) throws -> (weights: [Float], averages: [Float]?, norms: [Float]) {
    let store = ParameterStore(CPUBackend())
    try store.set("w", HostTensor(start.map { Float($0) }, [2]))
    let graph = Graph()
    let list = ParameterList(graph)
    let w = try list.scope.parameter("w", [2], .zeros)
    let loss = try (w * graph.input("c", [2])).total()
    let step = try TrainingStep(
      loss: loss, parameters: list.declarations, store: store, settings: settings)
    var norms: [Float] = []
    for (index, batches) in slopes.enumerated() {
      let report = try step.run(batches.map { ["c": try HostTensor($0, [2])] }, step: index)
      norms.append(report["gradient_norm"] ?? .nan)
    }
    let averages = settings.average == nil ? nil : try store.get("optimizer.ema.w").floats
    return (try store.get("w").floats, averages, norms)
  }

  private func settings(_ rate: Double) -> OptimizerSettings {
    var settings = OptimizerSettings(learningRate: rate, total: 100)
    settings.schedule = .constant
    settings.clip = 0
    settings.weightDecay = 0
    return settings
  }

  private func expectClose(_ got: [Float], _ want: [Double]) {
    for (g, w) in zip(got, want) { #expect(abs(Double(g) - w) < 2e-6 * max(1, abs(w)), "\(got) for \(want)") }
  }

  @Test(arguments: [false, true]) func momentumAddsUpAsAGeometricSeries(nesterov: Bool) throws {
    var settings = settings(0.1)
    settings.descent = .init(momentum: 0.5, nesterov: nesterov)
    let got = try train(settings, [[[Float]]](repeating: [[3, -4]], count: 3))
    // Velocities c, 1.5 c, 1.75 c; looking ahead, 1.5 c, 1.75 c, 1.875 c.
    let sum = nesterov ? 1.5 + 1.75 + 1.875 : 1 + 1.5 + 1.75
    expectClose(got.weights, [1 - 0.1 * sum * 3, -2 + 0.1 * sum * 4])
    #expect(got.norms.allSatisfy { abs($0 - 5) < 1e-5 })
  }

  @Test func descentAddsWeightDecayToTheGradient() throws {
    var settings = settings(0.1)
    settings.descent = .init()
    settings.weightDecay = 0.5
    let got = try train(settings, [[[0, 0]], [[0, 0]]])
    expectClose(got.weights, start.map { $0 * 0.95 * 0.95 })
  }

  /// With a constant gradient both corrected moments are exact, so each step is the learning rate.
  @Test func adamWStepsByTheRateUnderAConstantGradientAndDecaysApart() throws {
    var settings = settings(0.01)
    settings.weightDecay = 0.1
    let got = try train(settings, [[[Float]]](repeating: [[3, -0.2]], count: 4))
    var want = start
    for _ in 0..<4 { want = [want[0] * 0.999 - 0.01, want[1] * 0.999 + 0.01] }
    expectClose(got.weights, want)
  }

  @Test func gradientsAreClippedByTheirNormOverAllParameters() throws {
    var settings = settings(1)
    settings.descent = .init()
    settings.clip = 2
    let got = try train(settings, [[[3, 4]], [[0.3, 0.4]]])
    // 5 is cut to 2; 0.5 is left alone.
    expectClose(got.weights, [1 - 3 * 0.4 - 0.3, -2 - 4 * 0.4 - 0.4])
    #expect(abs(got.norms[0] - 5) < 1e-5 && abs(got.norms[1] - 0.5) < 1e-6)
  }

  @Test func accumulatedBatchesAreTheStepOfTheirMean() throws {
    var settings = settings(0.1)
    settings.average = 0.5
    let whole = try train(settings, [[[2, 1]], [[-1, 3]]])
    settings.accumulation = 2
    let parts = try train(settings, [[[1, 4], [3, -2]], [[0, 6], [-2, 0]]])
    #expect(parts.weights == whole.weights && parts.averages == whole.averages)
    #expect(throws: TensorError.self) { try train(settings, [[[1, 4]]]) }
  }

  @Test func averagesFollowTheWeights() throws {
    var settings = settings(0.1)
    settings.descent = .init()
    settings.average = 0.75
    let got = try train(settings, [[[10, 0]], [[10, 0]], [[10, 0]]])
    var (weight, average) = (1.0, 1.0)
    for _ in 0..<3 {
      weight -= 1
      average = 0.75 * average + 0.25 * weight
    }
    expectClose(try #require(got.averages), [average, -2])
    expectClose(got.weights, [weight, -2])
  }
}
