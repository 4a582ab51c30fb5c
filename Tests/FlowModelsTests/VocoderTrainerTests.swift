import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowModels

/// Trainings of decoder and encoder from weights that are there.
@Suite struct VocoderTrainerTests {
  private func settings(_ trained: VocoderTraining.Trained) -> VocoderTraining {
    var settings = VocoderTraining.tiny(steps: 3)
    settings.trained = trained
    settings.frames = 1
    settings.batch = 1
    settings.windows = [64, 256]
    settings.bands = [10, 20]
    settings.validateEvery = 2
    return settings
  }

  private func trainer(
    _ trained: VocoderTraining.Trained, seed: UInt64 = 3, initial: [String: HostTensor] = [:]
  ) throws -> VocoderTrainer {
    let wave = (0..<9600).map { Float(0.2 * Double($0 % 109 - 54) / 54) }
    return try VocoderTrainer(
      settings(trained), songs: [wave], validation: [], seed: seed, backend: CPUBackend(threads: 2),
      initial: initial)
  }

  private func named(_ weights: [String: HostTensor], _ prefix: String) -> [String: HostTensor] {
    Dictionary(uniqueKeysWithValues: weights.map { (prefix + $0.key, $0.value) })
  }

  @Test(arguments: [VocoderTraining.Trained.decoder, .encoder])
  func theOtherNetworkStaysAsItIs(trained: VocoderTraining.Trained) throws {
    let base = try trainer(.all).loop.weights()
    let training = try trainer(trained, seed: 4, initial: base)
    try training.loop.run()
    let before = try trainer(.all, seed: 5, initial: base)
    let (old, new) = (try before.split(base), try training.split(training.loop.weights()))
    let isDecoder = trained == .decoder
    #expect((old.decoder == new.decoder) == !isDecoder)
    #expect((old.encoder == new.encoder) == isDecoder)
    #expect(Set(old.decoder.keys) == Set(new.decoder.keys))
    // What moved is what the optimiser had.
    let prefix = isDecoder ? VocoderTrainer.decoderPrefix : VocoderTrainer.encoderPrefix
    #expect(try training.loop.weights().keys.allSatisfy { $0.hasPrefix(prefix) })
  }

  @Test func aDecoderWithoutAnEncoderGetsOne() throws {
    let base = try trainer(.all).loop.weights().filter { $0.key.hasPrefix(VocoderTrainer.decoderPrefix) }
    let training = try trainer(.encoder, seed: 9, initial: base)
    try training.loop.run()
    #expect(try training.split(training.loop.weights()).encoder.isEmpty == false)
    for (rate, rates) in [(48_000, [10, 10, 8, 3, 2, 2]), (24_000, [10, 10, 8, 6]), (16_000, [7, 9])] {
      var decoder = VocoderConfig.tiny
      decoder.samplingRate = rate
      decoder.upsampleRates = rates
      let encoder = LatentEncoderConfig.fitting(decoder)
      #expect(encoder.hop == decoder.hop)
      #expect(encoder.mel.map { $0.window >= $0.hop && $0.samplingRate == rate } == true)
    }
  }

  @Test func wantOfMemoryIsSaidBeforeTheFirstStep() throws {
    let need = try trainer(.all).memory
    #expect(need.parameters > 4 * 1_000_000 && need.intermediates > 1 << 20, "\(need.parts)")
    #expect(try trainer(.encoder).memory.optimizer < need.optimizer / 2)
    #expect(throws: TrainingError.self) {
      try VocoderTrainer(
        settings(.all), songs: [[0.1]], validation: [], seed: 1, backend: CPUBackend(),
        available: AvailableMemory(device: need.least - 1))
    }
  }

  @Test func weightsOfAnotherVocoderAreRefused() throws {
    var base = try trainer(.all).loop.weights()
    let key = "decoder.conv_pre.bias"
    base[key] = try HostTensor([1, 2] as [Float], [2])
    #expect(throws: ParameterError.self) { try trainer(.all, initial: base) }
    base[key] = nil
    #expect(throws: ParameterError.self) { try trainer(.all, initial: base) }
  }

  /// Weights kept in 16 bits do what the same numbers do in 32.
  @Test func halfTheBytesSoundTheSame() throws {
    let parts = try trainer(.all).split(trainer(.all).loop.weights())
    let wave = (0..<9600).map { Float(0.2 * sin(Double($0) * 0.05)) }
    func made(_ keep: (HostTensor) -> HostTensor) throws -> (latents: [Float], wave: [Float]) {
      let (encoder, decoder) = (ParameterStore(CPUBackend()), ParameterStore(CPUBackend()))
      for (name, value) in parts.encoder { try encoder.set(name, keep(value)) }
      for (name, value) in parts.decoder { try decoder.set(name, keep(value)) }
      let latents = try LatentEncoder.encode(wave, config: .tiny, store: encoder)
      let sound = try VocoderDecoder(.tiny, store: decoder, prefix: "").decode(latents.columns())
      return (latents.floats, sound)
    }
    let half = try made { $0.cast(to: .bfloat16) }
    let wide = try made { $0.cast(to: .bfloat16).cast(to: .float32) }
    #expect(half.latents == wide.latents && half.wave == wide.wave)
    #expect(try made { $0 }.latents != half.latents)
  }

  @Test func foldedWeightNormUnfolds() throws {
    let weights = try trainer(.all).loop.weights().filter {
      $0.key.hasPrefix(VocoderTrainer.decoderPrefix)
    }
    let folded = try Vocoder.folded(weights, on: CPUBackend())
    let again = try Vocoder.folded(Vocoder.unfolded(folded), on: CPUBackend())
    #expect(try Set(Vocoder.unfolded(folded).keys) == Set(weights.keys))
    for (name, value) in folded {
      #expect(relativeError(again[name]?.floats ?? [], value.floats) < 1e-6, "\(name)")
    }
    let zero = try Vocoder.unfolded(["a.weight": HostTensor([0, 0, 3, 4] as [Float], [2, 1, 2])])
    #expect(zero["a.weight_g"]?.floats == [0, 5])
    #expect(try Vocoder.folded(zero, on: CPUBackend())["a.weight"]?.floats == [0, 0, 3, 4])
  }

  /// The magnitudes' part of the mel loss by its definition, and its gradient by differences.
  @Test func magnitudesCountByTheirSize() throws {
    let count = 512
    var random = Philox(seed: 2, label: "waves")
    let x = (0..<count).map { _ in Float(random.normal()) }
    var y = (0..<count).map { _ in Float(random.normal()) }
    func run(_ weight: Float) throws -> (loss: Float, slope: [Float], mels: [[Float]]) {
      let (graph, shape) = (Graph(), [1, 1, count])
      let (a, b) = (try graph.input("x", shape), try graph.input("y", shape))
      let loss = MelLoss(samplingRate: 8000, windows: [64, 256], bands: [8, 16], magnitudeWeight: weight)
      let value = try loss(a, b)
      var outputs = [
        "loss": try value.reshaped([1]), "slope": try graph.gradients(of: value, withRespectTo: [b])[0],
      ]
      for scale in 0..<2 {
        outputs["a\(scale)"] = try loss.mel(a, scale: scale)
        outputs["b\(scale)"] = try loss.mel(b, scale: scale)
      }
      let program = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend()))
      let result = try program.run(["x": HostTensor(x, shape), "y": HostTensor(y, shape)])
      return (
        result["loss"]?.floats[0] ?? .nan, result["slope"]?.floats ?? [],
        ["a0", "b0", "a1", "b1"].map { result[$0]?.floats ?? [] }
      )
    }
    let (without, with) = (try run(0), try run(2))
    var expected = without.loss
    for scale in 0..<2 {
      let (a, b) = (with.mels[2 * scale], with.mels[2 * scale + 1])
      let difference = zip(a, b).reduce(0) { $0 + abs($1.0 - $1.1) }
      expected += 2 * difference / a.reduce(0, +)
    }
    #expect(abs(with.loss - expected) < 1e-4 * expected)
    for index in [0, 100, 511] {
      let kept = y[index]
      y[index] = kept + 1e-2
      let above = try run(2).loss
      y[index] = kept - 1e-2
      let below = try run(2).loss
      y[index] = kept
      #expect(abs((above - below) / 2e-2 - with.slope[index]) < 2e-2 * max(0.02, abs(with.slope[index])))
    }
  }
}
