public import FlowNN

/// How the vocoder and its encoder are trained.
public struct VocoderTraining: Sendable, Hashable, Codable {
  /// The decoder.
  public var vocoder: VocoderConfig
  /// The encoder.
  public var encoder: LatentEncoderConfig
  /// The optimiser.
  public var optimizer: OptimizerSettings
  /// Latent frames of a training segment.
  public var frames: Int
  /// Segments of a batch.
  public var batch: Int
  /// Windows of the mel loss.
  public var windows: [Int]
  /// Mel bands of each window.
  public var bands: [Int]
  /// Weight of the mean absolute difference of the waves.
  public var waveWeight: Float
  /// Weight of the pull of the latents to mean 0 and variance 1.
  public var latentWeight: Float
  /// Standard deviation of the noise added to latents in training, so that the decoder bears the transformer's errors.
  public var latentNoise: Float
  /// Steps between validations.
  public var validateEvery: Int
  /// Weight of the mel loss.
  public var melWeight: Float = 1
  /// Weight of magnitudes beside their logarithms within the mel loss.
  public var magnitudeWeight: Float = 0
  /// The smallest magnitude whose logarithm counts.
  public var floor: Float = 1e-5
  /// Training against discriminators; `nil` for none.
  public var adversarial: AdversarialTraining?
  /// What is trained; the rest stays as it is.
  public var trained = Trained.all

  /// What a training changes: both networks; the decoder alone, as a fine-tuning of a vocoder does; or the encoder alone, as
  /// is wanted for a decoder whose encoder nobody has.
  public enum Trained: String, Sendable, Hashable, Codable { case all, decoder, encoder }

  /// The preset that the demo trains: 24 kHz, 5 latent frames a second.
  public static func tiny(steps: Int) -> VocoderTraining {
    var optimizer = OptimizerSettings(learningRate: 2e-3, total: steps)
    optimizer.beta1 = 0.8
    optimizer.beta2 = 0.99
    optimizer.warmup = min(20, steps / 10)
    optimizer.clip = 10
    return VocoderTraining(
      vocoder: .tiny, encoder: .tiny, optimizer: optimizer, frames: 4, batch: 2,
      windows: [64, 256, 1024, 2048],
      bands: [10, 40, 160, 320], waveWeight: 1, latentWeight: 0.3, latentNoise: 0.1, validateEvery: 50)
  }
}
