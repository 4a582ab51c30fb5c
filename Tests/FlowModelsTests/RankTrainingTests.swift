import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@testable import FlowModels

/// Trainings whose batches are shared by ranks (here threads) beside the same on one rank.
@Suite struct RankTrainingTests {
  private static let steps = 24

  /// Songs of very unequal length, so that a mean over valid frames isn't a mean of the ranks' means.
  private static func flow(
    accumulation: Int, ranks: any Communicator, threads: Int = 1, adapted: Bool = false,
    voiced: Bool = false
  ) throws -> TrainingLoop {
    var settings = FlowTraining.tiny(steps: steps)
    if voiced {
      settings.conditions = ConditionTests.sizes
      (settings.alignmentWeight, settings.pitchWeight) = (0.5, 0.3)
    }
    if adapted {
      settings.adaptation = LowRank(rank: 4, alpha: 8, targets: DiT.layers(["attention"]), dropout: 0.4)
    }
    settings.model = DiTConfig(
      dim: 32, depth: 1, heads: 2, melDim: 8, textNumEmbeds: 520, condDim: 16, blockSize: 5)
    settings.batch = 4
    settings.validateEvery = 6
    settings.optimizer.accumulation = accumulation
    settings.optimizer.clip = 0.5
    let songs = try [3, 41, 8, 27, 16].enumerated().map { index, frames -> FlowSong in
      var random = Philox(seed: UInt64(index), label: "song")
      return FlowSong(
        latents: try HostTensor((0..<frames * 8).map { _ in Float(random.normal()) }, [frames, 8]),
        tokens: [3, 4, LyricTokens.lineEnd], style: PromptHash.vector("song \(index)", width: 16))
    }
    return try FlowTrainer(
      settings, songs: voiced ? ConditionTests.songs() : songs, validation: [1, 2], seed: 5,
      backend: CPUBackend(threads: threads), ranks: ranks
    ).loop
  }

  /// A strong pull of the latents, whose moments are those of the whole batch.
  private static func vocoder(
    accumulation: Int, ranks: any Communicator, threads: Int = 1, adversarial: Bool = false
  ) throws -> TrainingLoop {
    var settings = VocoderTraining.tiny(steps: steps)
    if adversarial {
      settings.adversarial = AdversarialTraining(
        weight: 1, featureWeight: 1,
        waves: DiscriminatorConfig(
          channelMultiplier: 0.01, periods: [2], resolutions: [[256, 64, 256]]))
    }
    settings.frames = 1
    settings.batch = 4
    settings.windows = [64]
    settings.bands = [10]
    settings.validateEvery = 6
    settings.latentWeight = 20
    // AdamW would make steps of the learning rate out of gradients that are nothing but rounding.
    settings.optimizer.descent = .init(momentum: 0.9)
    settings.optimizer.learningRate = 0.01
    settings.optimizer.accumulation = accumulation
    settings.optimizer.clip = 0.5
    let songs = (0..<3).map { index -> [Float] in
      let (height, pitch) = (0.1 * Double(1 + 4 * index), 0.02 * Double(index + 1))
      return (0..<9600).map { Float(height * sin(Double($0) * pitch)) }
    }
    return try VocoderTrainer(
      settings, songs: songs, validation: [0], seed: 2, backend: CPUBackend(threads: threads), ranks: ranks
    ).loop
  }

  enum Kind: CaseIterable { case flow, adapted, voiced, vocoder, opposed }

  private static func loop(
    _ kind: Kind, _ accumulation: Int, _ ranks: any Communicator, threads: Int = 1
  ) throws -> TrainingLoop {
    switch kind {
    case .flow: try flow(accumulation: accumulation, ranks: ranks, threads: threads)
    case .adapted: try flow(accumulation: accumulation, ranks: ranks, threads: threads, adapted: true)
    case .voiced: try flow(accumulation: accumulation, ranks: ranks, threads: threads, voiced: true)
    case .vocoder: try vocoder(accumulation: accumulation, ranks: ranks, threads: threads)
    case .opposed:
      try vocoder(accumulation: accumulation, ranks: ranks, threads: threads, adversarial: true)
    }
  }

  private struct Outcome: Sendable {
    var history: [TrainingPoint]
    var checkpoint: [UInt8]
  }

  private static func train(_ kind: Kind, _ accumulation: Int, ranks: Int, threads: Int = 1) throws
    -> [Outcome]
  {
    try ThreadRank.run(ranks) { rank in
      let loop = try loop(kind, accumulation, ranks == 1 ? SoleRank() : rank, threads: threads)
      try loop.run()
      return Outcome(history: loop.history, checkpoint: try loop.checkpoint())
    }
  }

  private func difference(_ a: Float?, _ b: Float?) -> Float {
    guard let a, let b else { return a == nil && b == nil ? 0 : .infinity }
    return abs(a - b) / max(abs(a), abs(b))
  }

  @Test(arguments: [
    (Kind.flow, 2, 1), (.flow, 4, 1), (.flow, 2, 2), (.adapted, 2, 2), (.voiced, 2, 1), (.vocoder, 4, 1),
    (.vocoder, 2, 2),
    (.opposed, 2, 1),
  ])
  func ranksTrainAsOneDoes(_ kind: Kind, _ ranks: Int, _ accumulation: Int) throws {
    let one = try RankTrainingTests.train(kind, accumulation, ranks: 1)[0].history
    let more = try RankTrainingTests.train(kind, accumulation, ranks: ranks)
    for outcome in more { #expect(outcome.history == more[0].history) }
    let shared = more[0].history
    #expect(shared.count == RankTrainingTests.steps)
    // The first step starts from the same weights: only rounding differs.
    #expect(difference(one[0].loss, shared[0].loss) < 1e-5)
    #expect(difference(one[0].gradientNorm, shared[0].gradientNorm) < 1e-4)
    for (a, b) in zip(one, shared) {
      #expect(difference(a.loss, b.loss) < 1e-5, "step \(a.step): \(a.loss), \(b.loss)")
      #expect(difference(a.validation, b.validation) < 1e-5, "step \(a.step)")
      #expect(difference(a.opponent, b.opponent) < 1e-5, "step \(a.step)")
    }
  }

  @Test(arguments: [Kind.flow, .opposed]) func theSameBytesOnEveryRankAndThread(_ kind: Kind) throws {
    let first = try RankTrainingTests.train(kind, 1, ranks: 2)
    let second = try RankTrainingTests.train(kind, 1, ranks: 2, threads: 2)
    #expect(first[0].checkpoint == first[1].checkpoint)
    #expect(first[0].checkpoint == second[0].checkpoint && first[0].history == second[0].history)
  }

  @Test(arguments: [Kind.flow, .opposed]) func ranksResumeWithTheSameBytes(_ kind: Kind) throws {
    struct Stop: Error {}
    let whole = try RankTrainingTests.train(kind, 1, ranks: 2)
    let resumed = try ThreadRank.run(2) { rank in
      let first = try RankTrainingTests.loop(kind, 1, rank)
      do { try first.run { if $0.step == 9 { throw Stop() } } } catch is Stop {}
      let saved = Data(rank.broadcast(try first.checkpoint()))
      let second = try RankTrainingTests.loop(kind, 1, rank)
      try second.restore(saved)
      try second.run()
      return try second.checkpoint()
    }
    #expect(resumed[0] == whole[0].checkpoint && resumed[1] == whole[0].checkpoint)
  }

  @Test(arguments: Kind.allCases) func ranksMustDivideTheBatch(_ kind: Kind) throws {
    let messages = try ThreadRank.run(3) { rank -> String in
      do {
        _ = try RankTrainingTests.loop(kind, 1, rank)
        return ""
      } catch let error as TrainingError { return "\(error)" }
    }
    for message in messages { #expect(message.contains("a batch of 4 can't be shared by 3 ranks")) }
  }
}
