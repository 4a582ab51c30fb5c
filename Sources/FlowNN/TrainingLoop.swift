public import FlowTensor

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

  let step: TrainingStep
  let opponent: Opponent?
  let names: [String]
  let store: ParameterStore
  let settings: OptimizerSettings
  private let validateEvery: Int
  private let terms: [String]
  private let batches: @Sendable (Int) throws -> [[String: HostTensor]]
  private let complete: (([String: HostTensor]) throws -> [String: HostTensor])?
  private let validate: (() throws -> Float)?
  var best: (loss: Float, weights: [String: HostTensor])?

  /// The steps taken so far.
  public internal(set) var history: [TrainingPoint] = []

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
}
