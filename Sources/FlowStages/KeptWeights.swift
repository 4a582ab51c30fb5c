import FlowCore
import FlowNN
import FlowStageKit
import FlowTensor
import Foundation

/// Weights of a training on its way: every so many steps, the last few of them, beside the best and the last. They are kept as
/// checkpoints are, so that a training that was killed has them all.
final class KeptWeights {
  private let context: StageContext
  private let every: Int
  private let count: Int
  private let total: Int

  /// - Parameters:
  ///   - every: steps between them; 0 keeps none.
  ///   - count: how many are kept.
  ///   - total: steps of the training.
  init(_ context: StageContext, every: Int, count: Int, total: Int) {
    self.context = context
    self.every = every
    self.count = count
    self.total = total
  }

  private func file(_ step: Int) -> String { "weights-\(step).safetensors" }

  /// The steps whose weights are given in the end.
  private var wanted: [Int] {
    guard every > 0 else { return [] }
    return Array(stride(from: every, through: total, by: every).suffix(count))
  }

  /// Whether all is there that a training that goes on after `step` steps can't make again.
  func has(before step: Int) throws -> Bool {
    for due in wanted where due <= step {
      if try context.checkpoint(file(due)) == nil { return false }
    }
    return true
  }

  /// After `step` steps: keeps `weights` if they are due, and lets go of the oldest.
  func take(_ step: Int, _ weights: () throws -> [String: HostTensor]) throws {
    guard every > 0, step % every == 0 else { return }
    try context.keepCheckpoint(Safetensors.encode(weights()), as: file(step))
    let old = step - every * count
    if old > 0 { context.discardCheckpoint(file(old)) }
  }

  /// Calls `emit` with a name and the weights of each.
  func forEach(_ emit: (String, [String: HostTensor]) throws -> Void) throws {
    let width = String(total).count
    for step in wanted {
      guard let bytes = try context.checkpoint(file(step)) else {
        throw StageFailure("the weights of step \(step) are gone", help: "run again")
      }
      let file = try SafetensorsFile(data: Data(bytes))
      var weights: [String: HostTensor] = [:]
      for name in file.names { weights[name] = try file.tensor(name) }
      let number = String(repeating: "0", count: width - String(step).count) + String(step)
      try emit("step-\(number)", weights)
    }
  }
}
