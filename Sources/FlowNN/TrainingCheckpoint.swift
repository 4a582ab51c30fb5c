import FlowTensor
public import Foundation

/// Putting a training down and taking it up again.
extension TrainingLoop {
  private static let kind = "flow-training-checkpoint-v1"

  /// What the state of a training is made of.
  private struct Part {
    let step: TrainingStep
    let prefix: String
    let name: String
    var key: String { prefix + name }
  }
  private var parts: [Part] {
    func parts(_ step: TrainingStep, _ names: [String], _ settings: OptimizerSettings) -> [Part] {
      ([""] + settings.statePrefixes).flatMap { prefix in
        names.map { Part(step: step, prefix: prefix, name: $0) }
      }
    }
    return parts(step, names, settings)
      + (opponent.map { parts($0.step, $0.names, $0.settings) } ?? [])
  }

  /// What a rank that isn't the first does while that takes a checkpoint: hands over what lies with it alone.
  /// - Throws: `TensorError`.
  public func handOver() throws {
    guard store.backend.ranks != nil else { return }
    for part in parts where !part.prefix.isEmpty {
      _ = try part.step.state(part.prefix, part.name, onFirstAlone: true)
    }
  }

  /// All that is needed to go on: weights, moments, best weights, history. Taken between two steps; ranks on
  /// devices take it all together, or the others `handOver`.
  /// - Throws: `TensorError`, `EncodingError`.
  public func checkpoint() throws -> [UInt8] {
    var tensors: [String: HostTensor] = [:]
    for part in parts { tensors[part.key] = try part.step.state(part.prefix, part.name) }
    for (name, value) in best?.weights ?? [:] { tensors["best." + name] = value }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let metadata = [
      "format": TrainingLoop.kind,
      "history": String(decoding: try encoder.encode(history), as: UTF8.self),
      "settings": String(decoding: try encoder.encode(settings), as: UTF8.self),
    ]
    return Safetensors.encode(tensors, metadata: metadata)
  }

  /// Goes back to where `checkpoint` was taken.
  /// - Throws: `TrainingError.checkpoint` when it is of other settings or another model; `SafetensorsError`,
  ///   `TensorError`. Nothing is changed then.
  public func restore(_ data: Data) throws {
    let file = try SafetensorsFile(data: data)
    guard file.metadata["format"] == TrainingLoop.kind, let text = file.metadata["history"],
      let settingsText = file.metadata["settings"],
      let points = try? JSONDecoder().decode([TrainingPoint].self, from: Data(text.utf8)),
      let known = try? JSONDecoder().decode(OptimizerSettings.self, from: Data(settingsText.utf8))
    else { throw TrainingError.checkpoint("it is not one of a training") }
    guard known == settings else { throw TrainingError.checkpoint("its optimiser settings are others") }
    guard points.allSatisfy({ ($0.opponent == nil) == (opponent == nil) }) else {
      throw TrainingError.checkpoint(
        "it is of a training \(opponent == nil ? "against" : "without") an opponent")
    }
    guard points.count <= settings.total, points.enumerated().allSatisfy({ $0 == $1.step }) else {
      throw TrainingError.checkpoint("its history has gaps")
    }
    var state: [(Part, HostTensor)] = []
    for part in parts {
      guard let entry = file.entries[part.key], entry.shape == store.shape(part.name) else {
        throw TrainingError.checkpoint("it has no '\(part.key)' of this model's shape")
      }
      state.append((part, try file.tensor(part.key)))
    }
    var bestWeights: [String: HostTensor] = [:]
    for name in names where file.entries["best." + name] != nil {
      bestWeights[name] = try file.tensor("best." + name)
    }
    for (part, value) in state { try part.step.set(part.prefix, part.name, value) }
    history = points
    best = nil
    if let loss = points.compactMap(\.validation).min(), bestWeights.count == names.count {
      best = (loss, bestWeights)
    }
  }

  /// The steps that were taken when the checkpoint `data` was.
  /// - Throws: `TrainingError.checkpoint` when it is none; `SafetensorsError`.
  public static func steps(of data: Data) throws -> Int {
    guard let text = try SafetensorsFile(data: data).metadata["history"],
      let points = try? JSONDecoder().decode([TrainingPoint].self, from: Data(text.utf8))
    else { throw TrainingError.checkpoint("it is not one of a training") }
    return points.count
  }
}
