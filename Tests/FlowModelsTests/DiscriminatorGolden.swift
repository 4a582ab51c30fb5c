import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Testing

@Suite struct DiscriminatorGolden {
  /// Compares scores, feature maps, losses and gradients of the discriminators in `disc_NAME*`.
  private func check(_ name: String, _ make: (DiscriminatorConfig, ParameterScope) -> any Discriminator)
    throws
  {
    guard let weights = try Reference("disc_\(name)_weights"), let io = try Reference("disc_\(name)"),
      let expected = try Reference("disc_\(name)_grads")
    else { return }
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let graph = Graph()
    let list = ParameterList(graph)
    let discriminator = make(try io.config.decode(DiscriminatorConfig.self), list.scope["w"])
    let generated = try graph.input("generated", io.shape("generated"))
    let real = try discriminator(graph.input("real", io.shape("real")))
    let fake = try discriminator(generated)
    let judged = try AdversarialLoss.discriminator(real: real, generated: fake)
    let fooled = try AdversarialLoss.generator(fake)
    let features = try AdversarialLoss.features(real: real, generated: fake)
    var outputs = try [
      "discriminator_loss": judged.reshaped([1]), "generator_loss": fooled.reshaped([1]),
      "feature_loss": features.reshaped([1]),
      "grad.generated(gen+feature)": graph.gradients(
        of: fooled + features, withRespectTo: [generated])[0],
    ]
    for (k, (r, g)) in zip(real, fake).enumerated() {
      outputs["d\(k).score_real"] = r.score
      outputs["d\(k).score_generated"] = g.score
      outputs["d\(k).fmap_generated.0"] = g.features.first
      outputs["d\(k).fmap_generated.last"] = g.features.last
    }
    let gradients = try graph.gradients(of: judged, withRespectTo: list.declarations.map(\.tensor))
    for (declaration, gradient) in zip(list.declarations, gradients) {
      outputs["grad." + declaration.name.dropFirst(2)] = gradient
    }
    let result = try Program(graph, outputs: outputs, parameters: store).run([
      "real": io["real"], "generated": io["generated"],
    ])
    for name in io.file.names where name != "real" && name != "generated" {
      let bar = name.hasSuffix("_loss") ? 1e-6 : name.hasPrefix("grad.") ? 1e-4 : 1e-5
      expectClose(result[name], try io[name], bar, name)
    }
    #expect(Set(weights.file.names) == Set(list.declarations.map(\.name)))
    #expect(expected.file.names.count == list.declarations.count)
    // The reference's own rounding shows in gradients that are the small rest of large sums.
    let squares = try expected.file.names.flatMap { try expected[$0].floats }.map { Double($0) * Double($0) }
    let floor = 1e-3 * squares.reduce(0, +).squareRoot()
    for name in expected.file.names {
      expectClose(result[name], try expected[name], 1e-4, name, floor: floor)
    }
  }

  @Test func periodsAgree() throws { try check("mpd") { PeriodDiscriminator($0, $1) } }

  @Test func resolutionsAgree() throws { try check("mrd") { ResolutionDiscriminator($0, $1) } }

  @Test func subbandsAgree() throws {
    guard let io = try Reference("disc_cqt") else { return }
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(io.file)
    let graph = Graph()
    let list = ParameterList(graph)
    let part = try SubbandDiscriminator.Part(io.config.decode(SubbandConfig.self), list.scope["w"])
    let wave = try graph.input("wave", io.shape("wave"))
    let fast = try part.resampled(wave)
    let spectrum = try part.transform(fast)
    let judgement = try part(wave)
    var outputs = try [
      "resampled_x2": fast, "cqt": spectrum.permuted([0, 3, 2, 1]),
      "score": judgement.score.reshaped(io.shape("score")),
    ]
    for (index, feature) in judgement.features.enumerated() { outputs["fmap.\(index)"] = feature }
    let result = try Program(graph, outputs: outputs, parameters: store).run(["wave": io["wave"]])
    let weights = Set(io.file.names.filter { $0.hasPrefix("w.") })
    #expect(weights == Set(list.declarations.map(\.name)))
    for name in io.file.names where name != "wave" && !weights.contains(name) {
      expectClose(result[name], try io[name], 1e-5, name)
    }
  }

  /// Waves that no discriminator can judge are refused with the place.
  @Test func wrongWavesAreRefused() throws {
    let graph = Graph()
    let scope = ParameterList(graph).scope
    let config = DiscriminatorConfig(channelMultiplier: 0.1)
    let stereo = try graph.input("stereo", [1, 2, 4000])
    let short = try graph.input("short", [1, 1, 5])
    let all: [any Discriminator] = [
      PeriodDiscriminator(config, scope), ResolutionDiscriminator(config, scope),
      try SubbandDiscriminator(SubbandConfig.published(samplingRate: 24000), scope),
    ]
    for discriminator in all {
      #expect(throws: TensorError.self) { try discriminator(stereo) }
    }
    #expect(throws: TensorError.self) { try ResolutionDiscriminator(config, scope)(short) }
    // Half of 8 kHz is below the ninth octave.
    #expect(throws: TensorError.self) {
      try SubbandDiscriminator(SubbandConfig.published(samplingRate: 4000), scope)
    }
    #expect(throws: TensorError.self) { try AdversarialLoss.generator([]) }
  }
}
