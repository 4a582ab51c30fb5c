import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowModels

@Suite struct TrainerTests {
  private func flowTrainer(
    steps: Int, threads: Int = 1, accumulation: Int = 1, adaptation: LowRank? = nil,
    initial: [String: HostTensor] = [:], depth: Int = 1, recomputes: Bool = false
  ) throws -> FlowTrainer {
    var settings = FlowTraining.tiny(steps: steps)
    settings.model = DiTConfig(
      dim: 32, depth: depth, heads: 2, melDim: 8, textNumEmbeds: 520, condDim: 16, blockSize: 5)
    settings.validateEvery = 4
    settings.optimizer.accumulation = accumulation
    settings.adaptation = adaptation
    settings.recomputes = recomputes
    if adaptation != nil { settings.optimizer.learningRate = 2e-2 }
    let songs = try (0..<4).map { index -> FlowSong in
      var random = Philox(seed: UInt64(index), label: "song")
      let frames = 7 + index
      return FlowSong(
        latents: try HostTensor((0..<frames * 8).map { _ in Float(random.normal()) }, [frames, 8]),
        tokens: [3, 4, LyricTokens.lineEnd], style: PromptHash.vector("song \(index)", width: 16))
    }
    return try FlowTrainer(
      settings, songs: songs, validation: [1], seed: 5, backend: CPUBackend(threads: threads),
      initial: initial)
  }

  private let lowRank = LowRank(
    rank: 4, alpha: 8, targets: DiT.layers(["attention", "feed_forward"]), dropout: 0.1)

  /// Only the adapter is trained, learns, and goes on after a stop with the same bytes; the same from a base in 16 bits as
  /// from the same numbers in 32.
  @Test func anAdapterLearnsBesideAFrozenBase() throws {
    let base = try flowTrainer(steps: 2).loop.weights().mapValues { $0.cast(to: .bfloat16) }
    let narrow = try flowTrainer(steps: 120, adaptation: lowRank, initial: base)
    #expect(try narrow.loop.weights().keys.allSatisfy { LowRank.module(ofKey: $0) != nil })
    try narrow.loop.run()
    let losses = narrow.loop.history.map(\.loss)
    let (begin, end): (Float, Float) = (losses.prefix(15).reduce(0, +), losses.suffix(15).reduce(0, +))
    #expect(end < 0.9 * begin)

    let wide = base.mapValues { $0.cast(to: .float32) }
    let part = try flowTrainer(steps: 120, threads: 2, adaptation: lowRank, initial: wide)
    struct Stop: Error {}
    #expect(throws: Stop.self) { try part.loop.run { if $0.step == 20 { throw Stop() } } }
    let resumed = try flowTrainer(steps: 120, adaptation: lowRank, initial: wide)
    try resumed.loop.restore(Data(part.loop.checkpoint()))
    try resumed.loop.run()
    #expect(try resumed.loop.checkpoint() == narrow.loop.checkpoint())

    // What the adapter does beside the base is what the merged weights do.
    let adapter = Adapter(lowRank, base: nil, weights: try narrow.loop.weights())
    let merged = try flowTrainer(
      steps: 120, initial: try adapter.merged(into: wide, on: CPUBackend()))
    let noise = (0..<40).map { Float($0 % 5 - 2) }
    func song(_ trainer: FlowTrainer) throws -> [Float] {
      let style = [Float](repeating: 0.2, count: 16)
      let sampler = try trainer.sampler(textCount: 2, maxBlocks: 1, guidance: 1)
      let latents = try sampler.sample(
        text: [3, 4], style: style, blocks: 1, steps: 4, keepLastFrame: true, noise: { _ in noise })
      return latents.floats
    }
    let (adapted, plain) = (try song(narrow), try song(flowTrainer(steps: 2, initial: wide)))
    #expect(relativeError(adapted, try song(merged)) < 1e-5)
    #expect(relativeError(adapted, plain) > 1e-2)
  }

  /// Layers computed again give the same losses, and take less memory.
  @Test func layersCanBeComputedAgain() throws {
    let kept = try flowTrainer(steps: 6, depth: 4)
    let again = try flowTrainer(steps: 6, depth: 4, recomputes: true)
    try kept.loop.run()
    try again.loop.run()
    for (a, b) in zip(kept.loop.history, again.loop.history) {
      #expect(abs(a.loss - b.loss) < 1e-4 * a.loss)
    }
    let (trained, state) = (kept.memory.parameters, kept.memory.optimizer)
    #expect(state == 2 * trained && kept.memory.copies == 9 * trained)
    let weights = try kept.loop.weights().values.reduce(0) { $0 + $1.floats.count * 4 }
    #expect(
      trained == weights
        && kept.memory.least == 3 * weights + kept.memory.intermediates + kept.memory.programs)
    #expect(kept.memory.hostState == 0)
    // Latents, what was made of them and what is wanted, of two songs of fifteen frames, in both programs.
    #expect(
      kept.memory.programs > 2 * 3 * 2 * 15 * 8 * 4 && kept.memory.total == kept.memory.least + 9 * weights)
    #expect(Double(again.memory.intermediates) < 0.7 * Double(kept.memory.intermediates))
  }

  @Test func weightsOfAnotherModelAreRefused() throws {
    let base = try flowTrainer(steps: 2).loop.weights()
    let key = "transformer.transformer_blocks.0.mlp.up_proj.weight"
    func refusal(_ weights: [String: HostTensor]) -> String {
      do {
        let trainer = try flowTrainer(steps: 2, initial: weights)
        return "accepted: \(trainer.settings)"
      } catch { return "\(error)" }
    }
    var other = base
    other[key] = try HostTensor([Float](repeating: 0, count: 64), [2, 32])
    #expect(
      refusal(other)
        == "'\(key)' has shape [2, 32], but the model's is [128, 32]: the weights are of a model of other sizes; take sizes and weights from the same place"
    )
    other[key] = nil
    #expect(refusal(other) == "the weights lack '\(key)': a shard is missing, or they are of another model")
    other = base
    other["transformer.more.weight"] = base[key]
    #expect(
      refusal(other)
        == "the model has no 'transformer.more.weight': the weights are of another model; take sizes and weights from the same place"
    )
    let wrong = LowRank(rank: 2, alpha: 2, targets: ["q_porj"])
    #expect(throws: AdapterError.self) { try flowTrainer(steps: 2, adaptation: wrong, initial: base) }
  }

  @Test func theFlowLossFalls() throws {
    let trainer = try flowTrainer(steps: 120)
    try trainer.loop.run()
    let losses = trainer.loop.history.map(\.loss)
    let (first, last): (Float, Float) = (losses.prefix(20).reduce(0, +), losses.suffix(20).reduce(0, +))
    #expect(last < 0.8 * first)
    #expect(trainer.loop.history.filter { $0.validation != nil }.count == 30)
  }

  @Test(arguments: [1, 2]) func aResumedTrainingHasTheSameBytes(accumulation: Int) throws {
    let whole = try flowTrainer(steps: 12, accumulation: accumulation)
    try whole.loop.run()
    let first = try flowTrainer(steps: 12, accumulation: accumulation)
    struct Stop: Error {}
    #expect(throws: Stop.self) { try first.loop.run { if $0.step == 5 { throw Stop() } } }
    let saved = Data(try first.loop.checkpoint())
    let second = try flowTrainer(steps: 12, threads: 2, accumulation: accumulation)
    try second.loop.restore(saved)
    #expect(second.loop.nextStep == 6)
    try second.loop.run()
    #expect(try second.loop.checkpoint() == whole.loop.checkpoint())
  }

  /// All of a training's state after 20 steps.
  @Test func twentyStepsHaveTheSameBytesOnOneTwoAndFourThreads() throws {
    var states: Set<[UInt8]> = []
    for threads in [1, 2, 4] {
      let trainer = try flowTrainer(steps: 20, threads: threads)
      try trainer.loop.run()
      states.insert(try trainer.loop.checkpoint())
    }
    #expect(states.count == 1)
  }

  @Test func aCheckpointOfOtherSettingsIsRefused() throws {
    let saved = Data(try flowTrainer(steps: 12).loop.checkpoint())
    let other = try flowTrainer(steps: 13)
    #expect(throws: TrainingError.self) { try other.loop.restore(saved) }
    #expect(throws: SafetensorsError.self) { try other.loop.restore(Data([1, 2, 3])) }
  }

  @Test func aSongThatDoesNotFitIsRefused() throws {
    let song = FlowSong(latents: try HostTensor([Float(0), 0], [1, 2]), tokens: [], style: [])
    #expect(throws: TrainingError.self) {
      try FlowTrainer(.tiny(steps: 2), songs: [song], validation: [], seed: 0, backend: CPUBackend())
    }
  }

  @Test func paddingIsOnesAndOnlyWholeBlocksCount() throws {
    var settings = FlowTraining.tiny(steps: 2)
    settings.batch = 1
    settings.model = DiTConfig(dim: 32, depth: 1, heads: 2, melDim: 2, condDim: 4, blockSize: 5)
    let songs = try [5, 14].map {
      FlowSong(
        latents: try HostTensor([Float](repeating: 0.5, count: $0 * 2), [$0, 2]), tokens: [1, 2],
        style: [1, 0, 0, 0])
    }
    var random = Philox(seed: 1)
    let inputs = try FlowBatches(settings, songs: songs, part: BatchPart(of: 1, SoleRank())).inputs(
      [0], &random, dropout: false)
    // Five frames fill a block, so a whole block of end frames follows; the third block is padding.
    let valid = [Float](repeating: 1, count: 10) + [Float](repeating: 0, count: 5)
    #expect(inputs["valid"]?.floats == valid)
    let clean = [Float](repeating: 0.5, count: 10) + [Float](repeating: 1, count: 20)
    #expect(inputs["clean"]?.floats == clean)
    // A step takes what the longest song takes whatever it draws: want of memory shows at the first.
    let long = try FlowBatches(settings, songs: songs, part: BatchPart(of: 1, SoleRank())).inputs(
      [1], &random, dropout: false)
    #expect(inputs.mapValues(\.shape) == long.mapValues(\.shape))
  }
}
