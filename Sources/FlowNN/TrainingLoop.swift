public import FlowTensor
public import Foundation

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

/// Takes the steps of a training, keeps its history and its best weights, and can be put down and taken up again with
/// the same bytes: batches must be a pure function of the step.
public final class TrainingLoop {
  /// What is trained by turns with the weights, such as discriminators: its step is taken first, on the same batches.
  public struct Opponent {
    let step: TrainingStep
    let names: [String]
    let settings: OptimizerSettings
    /// What memory it takes.
    public let memory: MemoryNeed

    /// An opponent that trains the parameters `names`.
    public init(step: TrainingStep, names: [String], settings: OptimizerSettings, memory: MemoryNeed) {
      self.memory = memory
      self.step = step
      self.names = names
      self.settings = settings
    }
  }

  private let step: TrainingStep
  private let opponent: Opponent?
  private let names: [String]
  private let store: ParameterStore
  private let settings: OptimizerSettings
  private let validateEvery: Int
  private let terms: [String]
  private let batches: @Sendable (Int) throws -> [[String: HostTensor]]
  private let complete: (([String: HostTensor]) throws -> [String: HostTensor])?
  private let validate: (() throws -> Float)?
  private var best: (loss: Float, weights: [String: HostTensor])?

  /// The steps taken so far.
  public private(set) var history: [TrainingPoint] = []

  /// A loop at its first step.
  /// - Parameters:
  ///   - step: what to run.
  ///   - names: the trainable parameters.
  ///   - validateEvery: steps between validations; the last step is always validated.
  ///   - batches: the inputs of a step, one dictionary per accumulated batch: a pure function of its number, which may be called
  ///     on another thread while the step before is taken.
  ///   - complete: adds to a batch what must be computed on the device just before it is learnt.
  ///   - validate: the validation loss of the weights in `store`; without it the last weights are the best.
  ///   - opponent: what is trained by turns with the weights, if anything.
  ///   - terms: outputs of the step that the history keeps, as parts of the loss.
  public init(
    _ step: TrainingStep, names: [String], store: ParameterStore, settings: OptimizerSettings,
    validateEvery: Int, opponent: Opponent? = nil, terms: [String] = [],
    batches: @escaping @Sendable (Int) throws -> [[String: HostTensor]],
    complete: (([String: HostTensor]) throws -> [String: HostTensor])? = nil,
    validate: (() throws -> Float)?
  ) {
    self.step = step
    self.opponent = opponent
    self.names = names
    self.store = store
    self.settings = settings
    self.validateEvery = max(1, validateEvery)
    self.terms = terms
    self.batches = batches
    self.complete = complete
    self.validate = validate
  }

  /// The programs of a step written out, by what they are for.
  public var listings: [(name: String, text: String)] {
    step.listings + (opponent?.step.listings.map { ("opponent's " + $0.name, $0.text) } ?? [])
  }
  /// The next step's number.
  public var nextStep: Int { history.count }
  /// Whether all steps are taken.
  public var isFinished: Bool { nextStep >= settings.total }
  /// The lowest validation loss so far.
  public var bestValidation: Float? { best?.loss }

  private static let opposed = "opponent's loss"

  /// The inputs of step `number`, one dictionary per accumulated batch.
  package func batch(ofStep number: Int) throws -> [[String: HostTensor]] { try batches(number) }

  /// Takes step `number` on `batch`, the opponent's first, and reports the step's scalars; the history is left as it is.
  /// `beside` is called while the device computes, where it has memory of its own.
  package func take(
    _ batch: [[String: HostTensor]], step number: Int, beside: () throws -> Void = {}
  ) throws -> [String: Float] {
    let batch = try complete.map { try batch.map($0) } ?? batch
    let opposed = try opponent?.step.start(batch, step: number)
    let own = try step.start(batch, step: number)
    try beside()
    let loss = try opposed?()["loss"]
    var result = try own()
    result[TrainingLoop.opposed] = loss
    return result
  }

  /// The inputs of step `number`, which are being made beside what the device computes.
  private func ahead(_ number: Int) -> Ahead<[[String: HostTensor]]>? {
    guard store.backend.hasOwnMemory, number < settings.total else { return nil }
    return Ahead { [batches] in try batches(number) }
  }

  /// Its programs of loss and gradients, by what they are for.
  package var programs: [(name: String, program: Program)] {
    [("step", step.program)] + (opponent.map { [("opponent's step", $0.step.program)] } ?? [])
  }

  /// FLOP of a step's matrix products, convolutions and attention, of one batch.
  package var productFlops: Int { programs.reduce(0) { $0 + $1.program.productFlops } }

  /// Takes steps until the last one, calling `progress` after each; what that throws ends the run between two steps.
  /// - Throws: `TrainingError.diverged`, `TensorError`, and what the closures throw.
  public func run(_ progress: (TrainingPoint) throws -> Void = { _ in }) throws {
    var next = ahead(nextStep)
    defer { next?.wait() }
    while !isFinished {
      let number = nextStep
      let batch = try next?.value() ?? batch(ofStep: number)
      next = ahead(number + 1)
      let result = try take(batch, step: number) {
        // One that can't be made ends the training when its step is due.
        guard let coming = try? next?.value() else { return }
        try opponent?.step.stage(coming)
        try step.stage(coming)
      }
      let opposed = result[TrainingLoop.opposed]
      let loss = result["loss"] ?? .nan
      let norm = result["gradient_norm"] ?? .nan
      guard loss.isFinite, norm.isFinite, opposed?.isFinite ?? true else {
        throw TrainingError.diverged(step: number)
      }
      var point = TrainingPoint(
        step: number, loss: loss, gradientNorm: norm, rate: settings.rate(number), validation: nil,
        opponent: opposed)
      if !terms.isEmpty { point.terms = result.filter { terms.contains($0.key) } }
      if let validate, (number + 1) % validateEvery == 0 || number + 1 == settings.total {
        let value = try validate()
        guard value.isFinite else { throw TrainingError.diverged(step: number) }
        point.validation = value
        if value < best?.loss ?? .infinity { best = (value, try weights()) }
      }
      history.append(point)
      try progress(point)
    }
  }

  /// The weights as they are now, by name.
  /// - Throws: `TensorError`.
  public func weights() throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for name in names { result[name] = try store.get(name) }
    return result
  }

  /// The moving averages of the weights, by the weights' names; `nil` when the settings ask for none.
  /// - Throws: `TensorError`.
  public func averagedWeights() throws -> [String: HostTensor]? {
    guard settings.average != nil else { return nil }
    var result: [String: HostTensor] = [:]
    for name in names { result[name] = try step.state(TrainingStep.averages, name) }
    return result
  }

  /// The weights with the lowest validation loss, or the last ones when nothing was validated.
  /// - Throws: `TensorError`.
  public func bestWeights() throws -> [String: HostTensor] { try best?.weights ?? weights() }

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
