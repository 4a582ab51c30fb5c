/// What one step of a training gave.
public struct TrainingPoint: Sendable, Hashable, Codable {
  /// The step, from 0.
  public var step: Int
  /// The loss on its batch, before the step.
  public var loss: Float
  /// The global gradient norm before clipping.
  public var gradientNorm: Float
  /// The learning rate.
  public var rate: Double
  /// The validation loss after the step, where it was measured.
  public var validation: Float?
  /// The opponent's loss on the batch, before both steps, where there is one.
  public var opponent: Float?
  /// The parts of the loss by name, before their weights, where there are several.
  public var terms: [String: Float]?
}

/// Why a training stopped.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
  /// The loss or gradient is no longer a finite number.
  case diverged(step: Int)
  /// The data can't be trained on.
  case data(String)
  /// A checkpoint belongs to another training.
  case checkpoint(String)
  /// There is less memory than its steps take.
  case memory(MemoryNeed, available: Int)
  /// There is less memory on the host than its optimiser's state takes there.
  case hostMemory(MemoryNeed, available: Int)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .diverged(let step): "the loss is not a number at step \(step); lower the learning rate"
    case .data(let why): why
    case .checkpoint(let why): "the checkpoint can't be used: \(why)"
    case .memory(let need, let available):
      "the training takes \(MemoryNeed.text(need.least)) of memory, and \(MemoryNeed.text(available)) are available"
        + " (\(need.parts))"
    case .hostMemory(let need, let available):
      "the optimiser's state takes \(MemoryNeed.text(need.hostState)) of the host's memory, and "
        + "\(MemoryNeed.text(available)) are available"
    }
  }
}
