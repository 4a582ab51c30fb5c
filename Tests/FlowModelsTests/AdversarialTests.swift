import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowModels

/// The vocoder's training alone, and against discriminators.
@Suite struct AdversarialTests {
  private let songs = (0..<3).map { index in
    (0..<24000).map { Float(0.3 * sin(Double($0) * 0.02 * Double(index + 1))) }
  }

  private func vocoderTrainer(
    steps: Int, threads: Int, adversarial: AdversarialTraining? = nil
  ) throws -> VocoderTrainer {
    var settings = VocoderTraining.tiny(steps: steps)
    settings.adversarial = adversarial
    settings.frames = 2
    settings.batch = 1
    settings.windows = [64, 256]
    settings.bands = [10, 40]
    settings.validateEvery = 10
    return try VocoderTrainer(
      settings, songs: songs, validation: [0], seed: 2, backend: CPUBackend(threads: threads))
  }

  /// All of a training's state after 20 steps.
  @Test func twentyStepsHaveTheSameBytesOnOneTwoAndFourThreads() throws {
    var states: Set<[UInt8]> = []
    for threads in [1, 2, 4] {
      let trainer = try vocoderTrainer(steps: 20, threads: threads)
      try trainer.loop.run()
      states.insert(try trainer.loop.checkpoint())
    }
    #expect(states.count == 1)
  }

  @Test func theVocoderLearnsAndResumesWithTheSameBytes() throws {
    func make(_ threads: Int) throws -> VocoderTrainer { try vocoderTrainer(steps: 30, threads: threads) }
    let whole = try make(1)
    try whole.loop.run()
    let part = try make(2)
    struct Stop: Error {}
    #expect(throws: Stop.self) { try part.loop.run { if $0.step == 9 { throw Stop() } } }
    let middle = Data(try part.loop.checkpoint())
    let again = try make(2)
    try again.loop.restore(middle)
    try again.loop.run()
    #expect(try again.loop.checkpoint() == whole.loop.checkpoint())
    let losses = whole.loop.history.map(\.loss)
    let (first, last): (Float, Float) = (losses.prefix(5).reduce(0, +), losses.suffix(5).reduce(0, +))
    #expect(last < 0.8 * first)

    let parts = try whole.split(whole.loop.bestWeights())
    let store = ParameterStore(CPUBackend())
    for (name, value) in parts.encoder { try store.set(name, value) }
    let latents = try LatentEncoder.encode(songs[0], config: whole.settings.encoder, store: store)
    #expect(latents.shape == [5, 64])
    #expect(latents.floats.allSatisfy { abs($0) < LatentEncoder.bound })
    #expect(parts.decoder["conv_pre.weight_g"] != nil)
    #expect(parts.decoder["activation_post.upsample.filter"]?.shape == [1, 1, 12])
  }

  private static let small = DiscriminatorConfig(
    channelMultiplier: 0.1, periods: [2, 3], resolutions: [[256, 64, 256]])
  private static let subband = SubbandConfig(
    filters: 4, maxFilters: 4, filtersScale: 1, dilations: [1, 2], outChannels: 1, samplingRate: 24000,
    hop: 256,
    octaves: 7, binsPerOctave: 12)
  private static let opponents = [
    AdversarialTraining(weight: 1, featureWeight: 1, waves: small),
    AdversarialTraining(weight: 0.5, featureWeight: 0, waves: small, subbands: [subband]),
  ]

  /// The discriminators learn (their loss falls from that of guessing), and a resumed training has the same bytes.
  @Test(arguments: opponents) func discriminatorsLearnAndResumeWithTheSameBytes(
    _ adversarial: AdversarialTraining
  ) throws {
    func make(_ threads: Int) throws -> VocoderTrainer {
      try vocoderTrainer(steps: 24, threads: threads, adversarial: adversarial)
    }
    let whole = try make(1)
    try whole.loop.run()
    let losses = whole.loop.history.compactMap(\.opponent)
    #expect(losses.count == 24)
    let (first, last): (Float, Float) = (losses.prefix(4).reduce(0, +), losses.suffix(4).reduce(0, +))
    #expect(last < 0.8 * first, "\(losses)")
    let part = try make(2)
    struct Stop: Error {}
    #expect(throws: Stop.self) { try part.loop.run { if $0.step == 6 { throw Stop() } } }
    let middle = Data(try part.loop.checkpoint())
    let again = try make(2)
    try again.loop.restore(middle)
    try again.loop.run()
    #expect(try again.loop.checkpoint() == whole.loop.checkpoint())
    // What is given away is the vocoder alone; a training without discriminators can't take this one's checkpoint up.
    let names = try whole.loop.weights().keys
    #expect(names.allSatisfy { $0.hasPrefix("decoder.") || $0.hasPrefix("encoder.") })
    #expect(throws: TrainingError.self) { try vocoderTrainer(steps: 24, threads: 1).loop.restore(middle) }
  }

  /// The adversarial losses reach the generator: its steps are others with them.
  @Test func theGeneratorHeedsTheDiscriminators() throws {
    struct Stop: Error {}
    func weights(_ adversarial: AdversarialTraining?) throws -> [String: HostTensor] {
      let trainer = try vocoderTrainer(steps: 24, threads: 1, adversarial: adversarial)
      // The first step's rate is 0.
      #expect(throws: Stop.self) { try trainer.loop.run { if $0.step == 1 { throw Stop() } } }
      return try trainer.loop.weights()
    }
    var (heeded, features) = (AdversarialTests.opponents[0], AdversarialTests.opponents[0])
    (heeded.featureWeight, features.weight) = (0, 0)
    let all = try [nil, heeded, features].map { try weights($0)["decoder.conv_post.weight_v"] }
    #expect(Set(all).count == 3)
    var neither = heeded
    neither.weight = 0
    #expect(try weights(neither)["decoder.conv_post.weight_v"] == all[0])
  }
}
