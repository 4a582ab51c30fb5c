import FlowNN
import FlowTensor

/// A training of two layers, with a wide and a narrow matrix and a vector.
enum SmallTraining {
  static let names = ["a", "b", "c"]
  static let shapes = [[30, 70], [70, 5], [5]]
  /// Bytes of one moment of all weights.
  static let momentBytes = shapes.reduce(0) { $0 + $1.reduce(4, *) }

  /// Its loop; batches are drawn by the step's number, of which `batch` is told.
  static func loop(
    on backend: any Backend, state: MemoryPlace = .device, steps: Int = 6, average: Double? = nil,
    batch: @escaping @Sendable (Int) throws -> Void = { _ in }
  ) throws -> TrainingLoop {
    let store = ParameterStore(backend)
    let graph = Graph()
    let list = ParameterList(graph)
    var weights: [Tensor] = []
    for (name, shape) in zip(names, shapes) {
      weights.append(try list.scope.parameter(name, shape, .normal(0.2)))
    }
    let hidden = try graph.input("x", [8, 30]).matmul(weights[0]).tanh()
    let off = try hidden.matmul(weights[1]) + weights[2] - graph.input("y", [8, 5])
    try list.initialize(store, seed: 3)
    var settings = OptimizerSettings(learningRate: 1e-2, total: steps)
    settings.average = average
    let step = try TrainingStep(
      loss: off.square().mean().reshaped([]), parameters: list.declarations, store: store,
      settings: settings, state: state)
    return TrainingLoop(
      step, names: names, store: store, settings: settings, validateEvery: steps,
      batches: { number in
        try batch(number)
        func values(_ count: Int, _ factor: Int) -> [Float] {
          (0..<count).map { Float(($0 * factor + number * 13) % 17) / 8 - 1 }
        }
        return [["x": try HostTensor(values(240, 7), [8, 30]), "y": try HostTensor(values(40, 5), [8, 5])]]
      }, validate: nil)
  }
}
