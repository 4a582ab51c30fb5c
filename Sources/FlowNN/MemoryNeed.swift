public import FlowCore
public import FlowTensor

/// What memory there is for a training, bytes.
public struct AvailableMemory: Sendable, Hashable {
  /// Of the memory that is computed in.
  public var device: Int
  /// Of the host's, for what is kept there instead.
  public var host: Int

  /// As much as is asked for, unless said.
  public init(device: Int = .max, host: Int = .max) {
    self.device = device
    self.host = host
  }
}

/// What memory a training takes, bytes.
public struct MemoryNeed: Sendable, Hashable {
  /// Weights that are trained, and those that are frozen, whether in memory or in the pages of a mapped file.
  public var parameters: Int
  /// What the optimiser keeps beside them between steps, in the same memory.
  public var optimizer: Int
  /// What it keeps in the host's memory instead.
  public var hostState: Int
  /// What programs take beside that: inputs, constants, and what their kernels need.
  public var programs = 0
  /// Intermediate values of a step and of a validation, whose shapes are those of the longest batch at every step.
  public var intermediates: Int
  /// The weights of the best validation, and a checkpoint while it is written.
  public var copies: Int

  /// The need of `parameters` as they are declared, intermediate values aside.
  /// - Parameters:
  ///   - list: of a recorded model.
  ///   - trained: those of them that are trained; `nil` for all that the list calls so.
  ///   - ranks: those that share each batch.
  ///   - backend: what they compute on.
  ///   - state: where the optimiser's state lies.
  public init(
    _ list: ParameterList, trained: [ParameterList.Declaration]? = nil, settings: OptimizerSettings,
    ranks: any Communicator, backend: any Backend, state: MemoryPlace = .device
  ) {
    func bytes(_ declarations: [ParameterList.Declaration]) -> Int {
      declarations.reduce(0) { $0 + $1.tensor.shape.reduce($1.tensor.dtype.size, *) }
    }
    let (all, trained) = (bytes(list.declarations), bytes(trained ?? list.trainable))
    let states = settings.statePrefixes.count
    parameters = all
    // Gradients are added up in memory of their own for several batches, or ranks that only the host speaks with.
    let adds = settings.accumulation > 1 || (ranks.size > 1 && backend.ranks == nil)
    let kept = trained * states / (backend.ranks?.size ?? 1)
    optimizer = (state == .device ? kept : 0) + (adds ? trained : 0)
    hostState = state == .host ? kept : 0
    intermediates = 0
    // A checkpoint has weights, state and the best weights, as tensors and as the bytes of a file.
    copies = trained + 2 * trained * (2 + states)
  }

  /// The need of `other` beside this, such as of what is trained by turns with it.
  public mutating func add(_ other: MemoryNeed) {
    parameters += other.parameters
    optimizer += other.optimizer
    hostState += other.hostState
    programs += other.programs
    intermediates = max(intermediates, other.intermediates)
    copies += other.copies
  }

  /// What no step can do without, of the memory that is computed in.
  public var least: Int { parameters + optimizer + intermediates + programs }
  /// All of it, the host's too.
  public var total: Int { least + hostState + copies }

  /// Throws unless there is enough for its steps.
  public func check(_ available: AvailableMemory) throws(TrainingError) {
    guard least <= available.device else { throw .memory(self, available: available.device) }
    guard hostState <= available.host else { throw .hostMemory(self, available: available.host) }
  }

  /// Its parts, for people.
  public var parts: String {
    let named = [
      ("parameters", parameters), ("optimiser state", optimizer), ("intermediate values", intermediates),
      ("inputs and scratch memory", programs), ("optimiser state on the host", hostState),
      ("best weights and checkpoints", copies),
    ]
    return named.filter { $0.1 > 0 }.map { "\($0.0) \(MemoryNeed.text($0.1))" }.joined(separator: ", ")
  }

  /// A number of bytes as people read it.
  public static func text(_ bytes: Int) -> String {
    let (unit, name) = bytes < 1 << 30 ? (1 << 20, "MiB") : (1 << 30, "GiB")
    let tenths = (Double(bytes) / Double(unit) * 10).rounded() / 10
    return "\(tenths) \(name)"
  }
}
