public import FlowCore
public import FlowTensor
import Foundation

/// A training step: loss, gradients, clipping by global norm, and AdamW or descent in one replayed program. With accumulation or
/// several ranks, one program adds gradients up, the ranks add up theirs, and another program applies them.
public final class TrainingStep {
  private let settings: OptimizerSettings
  private let forward: Program
  private let apply: Program?
  private let store: ParameterStore
  private let ranks: any Communicator
  private let exchange: GradientExchange?
  /// How ranks share the step whose devices speak with each other.
  private let shards: GradientShards?

  /// The name of a batch's input (a scalar) that says how much of the loss of the whole batch, over all ranks, is this rank's
  /// part: a loss that is a mean has the rank's share of what it is the mean of. An equal part when it is left out.
  public static let share = "share"

  /// Names under which the optimiser's state lies in the store.
  public static let firstMoment = "optimizer.m.", secondMoment = "optimizer.v.", accumulator = "optimizer.g.",
    averages = "optimizer.ema."
  private static let norm = "gradient_norm"

  /// Records the step.
  /// - Parameters:
  ///   - loss: the scalar to lower.
  ///   - outputs: further values to report.
  ///   - parameters: the trainable ones, which `store` must hold; moments are added to it if it lacks them.
  ///   - state: where what the optimiser keeps between steps lies; the numbers are the same.
  ///   - ranks: those that take parts of each batch. All hold the same parameters after each step.
  /// - Throws: `TensorError`, and what the ranks throw.
  public init(
    loss: Tensor, outputs: [String: Tensor] = [:], parameters: [ParameterList.Declaration],
    store: ParameterStore, settings: OptimizerSettings, state: MemoryPlace = .device,
    ranks: any Communicator = SoleRank()
  ) throws {
    self.settings = settings
    self.store = store
    self.ranks = ranks
    let graph = loss.graph
    graph.recomputesCheaply = store.backend.recomputesCheaply
    let shards = store.backend.ranks.map { GradientShards(parameters, $0) }
    self.shards = shards
    try shards?.begin(store)
    for declaration in parameters {
      let (name, shape) = (declaration.name, declaration.tensor.shape)
      let prefixes = shards?.isOwn(name) ?? true ? settings.statePrefixes : []
      for prefix in prefixes where store.shape(prefix + name) == nil {
        try store.make(prefix + name, shape, in: state)
        // An average begins at the weights.
        if prefix == TrainingStep.averages { try store.set(prefix + name, store.get(name)) }
      }
      let sum = TrainingStep.accumulator + name
      if settings.accumulation > 1, ranks.size == 1 || shards != nil, store.shape(sum) == nil {
        try store.make(sum, shape)
      }
    }
    let share = ranks.size == 1 ? nil : try graph.input(TrainingStep.share, [])
    // Where devices add up gradients as they are made, each is this rank's part from the start.
    let isPart = shards != nil && share != nil
    let lowered = try isPart ? share.map { try loss * $0 } ?? loss : loss
    let gradients = try graph.gradients(of: lowered, withRespectTo: parameters.map(\.tensor))
    var reports = outputs
    reports["loss"] = loss
    if settings.accumulation == 1, ranks.size == 1 || shards != nil {
      exchange = nil
      reports[TrainingStep.norm] = try TrainingStep.update(
        graph, parameters.map(\.name), parameters.map(\.tensor), gradients, settings, shards)
      forward = try Program(graph, outputs: reports, parameters: store)
      apply = nil
      return
    }
    exchange =
      ranks.size == 1 || shards != nil
      ? nil
      : try GradientExchange(parameters, prefix: TrainingStep.accumulator, store: store, ranks: ranks)
    for (declaration, gradient) in zip(parameters, gradients) {
      let sum = try graph.parameter(TrainingStep.accumulator + declaration.name, declaration.tensor.shape)
      let part =
        try isPart
        ? gradient : share.map { try gradient * $0 } ?? gradient * (1 / Float(settings.accumulation))
      try graph.assign(sum, sum + part)
    }
    forward = try Program(graph, outputs: reports, parameters: store)
    let second = Graph()
    let sums = try parameters.map {
      try second.parameter(TrainingStep.accumulator + $0.name, $0.tensor.shape)
    }
    let tensors = try parameters.map { try second.parameter($0.name, $0.tensor.shape) }
    let total = try TrainingStep.update(second, parameters.map(\.name), tensors, sums, settings, shards)
    for sum in sums { try second.assign(sum, sum * 0) }
    apply = try Program(second, outputs: [TrainingStep.norm: total], parameters: store)
  }

  /// Records the update of the parameters, of several ranks' devices of this rank's own; the norm of the gradient.
  private static func update(
    _ graph: Graph, _ names: [String], _ parameters: [Tensor], _ given: [Tensor],
    _ settings: OptimizerSettings, _ shards: GradientShards?
  ) throws(TensorError) -> Tensor {
    let gradients = try shards?.reduced(given) ?? given
    let own = names.indices.filter { shards?.isOwn(names[$0]) ?? true }
    var squares = try graph.constant(0)
    for index in own { squares = try squares + gradients[index].square().total() }
    if let shards { squares = try shards.total(squares, after: gradients) }
    let norm = try squares.sqrt()
    var factor = try graph.constant([1], [1])
    if settings.clip > 0 {
      factor = try (norm + 1e-6).reciprocal().reshaped([1]) * Float(settings.clip)
      factor = try factor.minimum(graph.constant(1))
    }
    let scalars = try Tensor.concatenated([graph.input("optimizer", [3]), factor], axis: 0)
    let op = AdamW(
      beta1: Float(settings.beta1), beta2: Float(settings.beta2), epsilon: Float(settings.epsilon),
      weightDecay: Float(settings.weightDecay))
    for index in own {
      let (name, weight, gradient) = (names[index], parameters[index], gradients[index])
      let shape = weight.shape
      let first = try graph.parameter(firstMoment + name, shape)
      let new: Tensor
      if let descent = settings.descent {
        new = try descend(descent, weight, gradient, first, scalars, decay: settings.weightDecay)
      } else {
        new = try graph.adamW(
          op, parameter: weight, gradient: gradient, first: first,
          second: graph.parameter(secondMoment + name, shape), scalars: scalars)
      }
      if let decay = settings.average {
        let average = try graph.parameter(averages + name, shape)
        try graph.assign(average, average * Float(decay) + new * Float(1 - decay))
      }
    }
    return norm
  }

  /// Records a step of descent; `scalars` as for AdamW. The weight's new value.
  private static func descend(
    _ descent: OptimizerSettings.Descent, _ weight: Tensor, _ gradient: Tensor, _ momentum: Tensor,
    _ scalars: Tensor, decay: Double
  ) throws(TensorError) -> Tensor {
    let (graph, shape) = (weight.graph, weight.shape)
    func scalar(_ index: Int) throws(TensorError) -> Tensor {
      try scalars.sliced(axis: 0, from: index, count: 1).reshaped([])
    }
    let slope = try gradient * scalar(3) + weight * Float(decay)
    let moved = try momentum * Float(descent.momentum) + slope
    let step = descent.nesterov ? try slope + moved * Float(descent.momentum) : moved
    let new = try (weight - step * scalar(0)).reshaped(shape)
    try graph.assign(weight, new)
    try graph.assign(momentum, moved)
    return new
  }

  /// Begins to bring the batch of the next step to a device that has memory of its own, beside what it computes.
  /// - Throws: `TensorError`.
  func stage(_ batches: [[String: HostTensor]]) throws {
    if let first = batches.first { try forward.stage(first) }
  }

  /// Begins step number `step` as `run` takes it, and gives what waits for its scalars. A step of one program goes on on its
  /// device until then; any other is over.
  /// - Throws: `TensorError`, and what the ranks throw.
  func start(_ batches: [[String: HostTensor]], step: Int) throws -> () throws -> [String: Float] {
    guard apply == nil, ranks.size == 1, shards == nil, batches.count == 1, settings.accumulation == 1 else {
      let result = try run(batches, step: step)
      return { result }
    }
    let finish = try forward.start(batches[0].merging(["optimizer": scalars(step)]) { $1 })
    return {
      var result: [String: Float] = [:]
      for (name, value) in try finish() where value.shape.reduce(1, *) == 1 { result[name] = value.floats[0] }
      return result
    }
  }

  /// What the update of step number `step` takes: rate, and what is left of the moments' beginning.
  private func scalars(_ step: Int) throws(TensorError) -> HostTensor {
    let n = Double(step + 1)
    return try HostTensor(
      [
        Float(settings.rate(step)), Float(1 - pow(settings.beta1, n)), Float(1 - pow(settings.beta2, n)),
      ], [3])
  }

  /// Takes step number `step` (from 0) on `batches` (one, or as many as are accumulated); the reported scalars, averaged
  /// over the batches, each as `share` says over the ranks.
  /// - Throws: `TensorError`, and what the ranks throw.
  public func run(_ batches: [[String: HostTensor]], step: Int) throws -> [String: Float] {
    guard batches.count == settings.accumulation else {
      throw TensorError.input("\(batches.count) batches were given, \(settings.accumulation) are accumulated")
    }
    let scalars = try scalars(step)
    var sums: [String: Float] = [:]
    var norm: Float?
    for batch in batches {
      var inputs = batch
      if apply == nil { inputs["optimizer"] = scalars }
      var weight = 1 / Float(batches.count)
      if ranks.size > 1 {
        weight *= batch[TrainingStep.share]?.floats.first ?? 1 / Float(ranks.size)
        inputs[TrainingStep.share] = try HostTensor([weight], [])
      }
      for (name, value) in try forward.run(inputs) where value.shape.reduce(1, *) == 1 {
        if name == TrainingStep.norm {
          // Of the whole step.
          norm = value.floats[0]
        } else {
          sums[name, default: 0] +=
            ranks.size == 1 ? value.floats[0] / Float(batches.count) : value.floats[0] * weight
        }
      }
    }
    try exchange?.sum()
    if let apply { norm = try apply.run(["optimizer": scalars])[TrainingStep.norm]?.floats[0] }
    // The device does this while the host has the scalars.
    try shards?.spread(store)
    if ranks.size > 1 {
      let names = sums.keys.sorted()
      var values = names.map { sums[$0, default: 0] }
      try ranks.sum(&values)
      for (name, value) in zip(names, values) { sums[name] = value }
    }
    sums[TrainingStep.norm] = norm ?? 0
    return sums
  }

  /// What lies under `prefix` for the parameter `name`, of whichever rank; all ask for the same. With `onFirstAlone`, ranks but the
  /// first get `nil`.
  /// - Throws: `TensorError`.
  func state(_ prefix: String, _ name: String, onFirstAlone: Bool = false) throws -> HostTensor? {
    guard let shards, let shape = store.shape(name), !prefix.isEmpty else {
      return try store.get(prefix + name)
    }
    return try store.get(prefix + name, shape, of: shards.owner(of: name), onFirstAlone: onFirstAlone)
  }

  /// Sets it where it is kept.
  /// - Throws: `TensorError`.
  func set(_ prefix: String, _ name: String, _ value: HostTensor) throws {
    guard prefix.isEmpty || shards?.isOwn(name) ?? true else { return }
    try store.set(prefix + name, value)
  }

  /// FLOP of a batch's matrix products, convolutions and attention.
  public var productFlops: Int { forward.productFlops }

  /// Bytes of its intermediate values.
  public var intermediateBytes: Int { max(forward.arenaCount, apply?.arenaCount ?? 0) * 4 }

  /// Bytes of what its programs take beside those and parameters.
  public var ownBytes: Int { forward.ownBytes + (apply?.ownBytes ?? 0) }

  /// The program of loss and gradients.
  package var program: Program { forward }

  /// Its programs written out, by what they are for.
  public var listings: [(name: String, text: String)] {
    guard let apply else { return [("step", forward.listing)] }
    return [("gradients", forward.listing), ("update", apply.listing)]
  }
}
