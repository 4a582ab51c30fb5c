import FlowCore
import FlowNN
import FlowTensor

/// How a vocoder is trained against discriminators, by turns, as BigVGAN is (spec 5.9).
public struct AdversarialTraining: Sendable, Hashable, Codable {
  /// Weight of the adversarial loss.
  public var weight: Float
  /// Weight of the distance of features, which counts twice as published.
  public var featureWeight: Float
  /// Sizes of the discriminators of periods, and of resolutions if there are no sub-band ones.
  public var waves: DiscriminatorConfig
  /// Sub-band discriminators; empty for those of resolutions (BigVGAN's second version has these, its first those).
  public var subbands: [SubbandConfig]

  /// Discriminators of periods and resolutions unless said.
  public init(
    weight: Float, featureWeight: Float, waves: DiscriminatorConfig = DiscriminatorConfig(),
    subbands: [SubbandConfig] = []
  ) {
    self.weight = weight
    self.featureWeight = featureWeight
    self.waves = waves
    self.subbands = subbands
  }

  /// Judges real and generated waves [B, 1, T]; parameters are under `mpd` and `mrd` or `cqtd`.
  private func judgements(
    _ made: VocoderTrainer.Loss, _ list: ParameterList
  ) throws(TensorError) -> (real: [Judgement], generated: [Judgement]) {
    let periods = PeriodDiscriminator(waves, list.scope["mpd"])
    let others: any Discriminator =
      subbands.isEmpty
      ? ResolutionDiscriminator(waves, list.scope["mrd"])
      : try SubbandDiscriminator(subbands, list.scope["cqtd"])
    return (
      try periods(made.real) + others(made.real), try periods(made.generated) + others(made.generated)
    )
  }

  /// What is added to the generator's loss. The discriminators' parameters are declared in a list of their own, as this
  /// step doesn't change them.
  func generatorLoss(_ made: VocoderTrainer.Loss) throws(TensorError) -> Tensor {
    let judged = try judgements(made, ParameterList(made.real.graph))
    return try AdversarialLoss.generator(judged.generated) * weight
      + AdversarialLoss.features(real: judged.real, generated: judged.generated) * featureWeight
  }

  /// The discriminators' parameters and loss.
  struct Opposed {
    let parameters: ParameterList
    let loss: Tensor
  }

  /// The discriminators' loss on what the generator makes, recorded in the graph of `made`. Parameters that `store` lacks are
  /// drawn.
  func opposed(_ made: VocoderTrainer.Loss, store: ParameterStore, seed: UInt64) throws -> Opposed {
    let list = ParameterList(made.real.graph)
    let judged = try judgements(made, list)
    let loss = try AdversarialLoss.discriminator(real: judged.real, generated: judged.generated)
    try list.initialize(store, seed: seed)
    return Opposed(parameters: list, loss: loss)
  }

  /// The discriminators' step.
  static func opponent(
    _ opposed: Opposed, store: ParameterStore, settings: OptimizerSettings, state: MemoryPlace,
    ranks: any Communicator
  ) throws -> TrainingLoop.Opponent {
    let list = opposed.parameters
    var settings = settings
    settings.average = nil
    let step = try TrainingStep(
      loss: opposed.loss, parameters: list.declarations, store: store, settings: settings, state: state,
      ranks: ranks)
    var need = MemoryNeed(
      list, settings: settings, ranks: ranks, backend: store.backend, state: store.backend.place(state))
    need.intermediates = step.intermediateBytes
    need.programs = step.ownBytes
    return TrainingLoop.Opponent(
      step: step, names: list.declarations.map(\.name), settings: settings, memory: need)
  }
}
