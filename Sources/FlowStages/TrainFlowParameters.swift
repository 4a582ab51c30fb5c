import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor

extension TrainFlow {
  /// See `stages/train-flow.yaml`.
  struct Parameters: Decodable, Sendable {
    var steps: Int
    var batch: Int
    var weights: [Double]
    var rate: Double
    var warmup: Int
    var schedule: OptimizerSettings.Schedule
    var betas: [Double]
    var weightDecay: Double
    var clip: Double
    var accumulation: Int
    var ranks: Int
    var frames: Int
    var tokens: Int
    var dropout: Double
    var dim: Int
    var depth: Int
    var heads: Int
    var reconstructionLoss: Double
    var phonemeAlignmentLoss: Double
    var pitchConsistencyLoss: Double
    var conditions: [String]
    var method: Method
    var rank: Int
    var alpha: Double
    var adapterDropout: Double
    var rslora: Bool
    var targets: [String]
    var recompute: Bool
    var validate: Int
    var heldOut: Double
    var preview: Int
    var save: Int
    var keep: Int
    var seed: Int
    var checkpoint: Int
    var device: DeviceKind
    var precision: DevicePrecision
    var optimizerState: MemoryPlace

    enum CodingKeys: String, CodingKey {
      case steps, batch, weights, rate, warmup, schedule, betas, clip, accumulation, ranks, frames, tokens
      case dropout, dim, depth, heads, conditions, method, rank, alpha, rslora, targets, recompute
      case validate, preview, save, keep, seed, checkpoint, device, precision
      case reconstructionLoss = "reconstruction_loss"
      case phonemeAlignmentLoss = "phoneme_alignment_loss"
      case pitchConsistencyLoss = "pitch_consistency_loss"
      case weightDecay = "weight_decay"
      case heldOut = "held_out"
      case adapterDropout = "adapter_dropout"
      case optimizerState = "optimizer_state"
    }
  }
  enum Method: String, Decodable, Sendable { case full, lora, conditions }

  /// Throws what the declaration can't rule out.
  static func check(_ parameters: Parameters) throws {
    guard parameters.betas.count == 2, parameters.betas.allSatisfy({ $0 < 1 }) else {
      throw StageFailure("'betas' must be two numbers below 1, such as [0.9, 0.999]")
    }
    guard parameters.weights.isEmpty || parameters.weights.contains(where: { $0 > 0 }) else {
      throw StageFailure("one of 'weights' must be above 0, or nothing is ever drawn")
    }
    let known = ConditionSizes.Kind.allCases.map(\.rawValue)
    if let strange = parameters.conditions.first(where: { !known.contains($0) }) {
      throw StageFailure("'\(strange)' is no condition; there are \(known.joined(separator: ", "))")
    }
    guard parameters.method != .conditions || !parameters.conditions.isEmpty else {
      throw StageFailure("of method conditions, 'conditions' says which are trained")
    }
    guard parameters.dim % (2 * parameters.heads) == 0 else {
      throw StageFailure(
        "'dim' (\(parameters.dim)) must be a multiple of twice 'heads' (\(parameters.heads))")
    }
  }

  /// The conditions that the parameters name.
  var kinds: Set<ConditionSizes.Kind> { Set(parameters.conditions.compactMap(ConditionSizes.Kind.init)) }

  /// How the parameters say to train; the model's widths are known when the data are.
  var settings: FlowTraining {
    var settings = FlowTraining.tiny(steps: parameters.steps)
    settings.model.dim = parameters.dim
    settings.model.depth = parameters.depth
    settings.model.heads = parameters.heads
    settings.batch = parameters.batch
    settings.weights = parameters.weights
    settings.optimizer.learningRate = parameters.rate
    settings.optimizer.warmup = min(parameters.warmup, parameters.steps / 10)
    settings.optimizer.schedule = parameters.schedule
    settings.optimizer.beta1 = parameters.betas[0]
    settings.optimizer.beta2 = parameters.betas[1]
    settings.optimizer.weightDecay = parameters.weightDecay
    settings.optimizer.clip = parameters.clip
    settings.optimizer.accumulation = parameters.accumulation
    settings.maxFrames = parameters.frames
    settings.maxTokens = parameters.tokens
    settings.textDropout = parameters.dropout
    settings.styleDropout = parameters.dropout
    settings.recomputes = parameters.recompute
    settings.validateEvery = parameters.validate
    settings.flowWeight = parameters.reconstructionLoss
    settings.alignmentWeight = parameters.phonemeAlignmentLoss
    settings.pitchWeight = parameters.pitchConsistencyLoss
    settings.isFrozen = parameters.method == .conditions
    if parameters.method == .lora {
      settings.adaptation = LowRank(
        rank: parameters.rank, alpha: parameters.alpha, targets: DiT.layers(parameters.targets),
        dropout: parameters.adapterDropout, isStabilized: parameters.rslora)
    }
    return settings
  }
}
