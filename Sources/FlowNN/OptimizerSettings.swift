import Foundation

/// Settings of a training run's optimiser.
public struct OptimizerSettings: Sendable, Hashable, Codable {
  /// How the learning rate goes on after the warm-up.
  public enum Schedule: String, Sendable, Codable, CaseIterable { case cosine, linear, constant }

  /// Stochastic gradient descent with momentum, as torch's SGD: weight decay is added to the gradient.
  public struct Descent: Sendable, Hashable, Codable {
    /// The share of the last step that goes on; 0 for none.
    public var momentum: Double
    /// Looks ahead by one step of momentum (Nesterov 1983).
    public var nesterov: Bool
    /// Descent with this momentum.
    public init(momentum: Double = 0, nesterov: Bool = false) {
      self.momentum = momentum
      self.nesterov = nesterov
    }
  }

  /// The highest learning rate.
  public var learningRate: Double
  /// Decay of the first moment.
  public var beta1 = 0.9
  /// Decay of the second moment.
  public var beta2 = 0.999
  /// Added to the root of the second moment.
  public var epsilon = 1e-8
  /// Decoupled weight decay, on all parameters.
  public var weightDecay = 0.01
  /// The largest global gradient norm; 0 for no limit.
  public var clip = 1.0
  /// Steps of linear warm-up from 0; step 0 has rate 0.
  public var warmup = 0
  /// Steps in all.
  public var total: Int
  /// The schedule.
  public var schedule = Schedule.cosine
  /// Batches whose gradients are averaged in one step.
  public var accumulation = 1
  /// Descends so instead of by AdamW, whose settings then mean nothing but the weight decay.
  public var descent: Descent?
  /// The decay of an exponential moving average of the weights, kept beside them; none when `nil`.
  public var average: Double?

  /// Under what prefixes a parameter's state lies in the store between steps.
  var statePrefixes: [String] {
    [TrainingStep.firstMoment] + (descent == nil ? [TrainingStep.secondMoment] : [])
      + (average == nil ? [] : [TrainingStep.averages])
  }

  /// Settings with the usual values of AdamW.
  public init(learningRate: Double, total: Int) {
    self.learningRate = learningRate
    self.total = total
  }

  /// The learning rate of step `step`, counted from 0 (spec 4.8).
  public func rate(_ step: Int) -> Double {
    if step < warmup { return learningRate * Double(step) / Double(warmup) }
    let progress = Double(step - warmup) / Double(max(1, total - warmup))
    switch schedule {
    case .constant: return learningRate
    case .linear: return learningRate * max(0, 1 - progress)
    case .cosine: return learningRate * 0.5 * (1 + cos(.pi * min(1, progress)))
    }
  }
}
