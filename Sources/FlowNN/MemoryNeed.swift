import FlowTensor

/// What memory a training takes, bytes.
public struct MemoryNeed: Sendable, Hashable {
  /// Weights that are trained, and those that are frozen, whether in memory or in the pages of a mapped file.
  public var parameters: Int
  /// What the optimiser keeps beside them between steps.
  public var optimizer: Int
  /// Intermediate values of a step and of a validation, whose shapes are those of the longest batch at every step.
  public var intermediates: Int
  /// The weights of the best validation, and a checkpoint while it is written.
  public var copies: Int

  /// The need of `parameters` as they are declared, intermediate values aside.
  /// - Parameters:
  ///   - list: of a recorded model.
  ///   - trained: those of them that are trained; `nil` for all that the list calls so.
  ///   - isShared: gradients are added up in a buffer of their own, for several batches or ranks.
  public init(
    _ list: ParameterList, trained: [ParameterList.Declaration]? = nil, settings: OptimizerSettings,
    isShared: Bool
  ) {
    func bytes(_ declarations: [ParameterList.Declaration]) -> Int {
      declarations.reduce(0) { $0 + $1.tensor.shape.reduce($1.tensor.dtype.size, *) }
    }
    let (all, trained) = (bytes(list.declarations), bytes(trained ?? list.trainable))
    let states = settings.statePrefixes.count
    parameters = all
    optimizer = trained * (states + (isShared ? 1 : 0))
    intermediates = 0
    // A checkpoint has weights, state and the best weights, as tensors and as the bytes of a file.
    copies = trained + 2 * trained * (2 + states)
  }

  /// The need of `other` beside this, such as of what is trained by turns with it.
  public mutating func add(_ other: MemoryNeed) {
    parameters += other.parameters
    optimizer += other.optimizer
    intermediates = max(intermediates, other.intermediates)
    copies += other.copies
  }

  /// What no step can do without.
  public var least: Int { parameters + optimizer + intermediates }
  /// All of it.
  public var total: Int { least + copies }

  /// Its parts, for people.
  public var parts: String {
    let named = [
      ("parameters", parameters), ("optimiser state", optimizer), ("intermediate values", intermediates),
      ("best weights and checkpoints", copies),
    ]
    return named.map { "\($0.0) \(MemoryNeed.text($0.1))" }.joined(separator: ", ")
  }

  /// A number of bytes as people read it.
  public static func text(_ bytes: Int) -> String {
    let (unit, name) = bytes < 1 << 30 ? (1 << 20, "MiB") : (1 << 30, "GiB")
    let tenths = (Double(bytes) / Double(unit) * 10).rounded() / 10
    return "\(tenths) \(name)"
  }
}
