import FlowCore

@testable package import FlowTensor

/// How an input reaches the op: as it is, or as a view of something else.
package enum InputView: CaseIterable, Sendable {
  case plain, permuted, sliced
}

/// One use of an op: shapes of its inputs, and where their values are drawn from.
package struct OpCase: CustomStringConvertible, Sendable {
  package let op: any Op
  package let shapes: [[Int]]
  package var domain: ClosedRange<Double> = -2...2
  /// An int32 input, and what its numbers are below.
  package var indices: (input: Int, limit: Int)?
  /// An input of zeros and ones, which has no gradient.
  package var mask: Int?
  package var differentiable = true
  /// The type of an op's input that takes any; without one it is the device's.
  package var type: DType?
  /// Inputs that follow from others.
  package var derive: (@Sendable ([[Double]], [[Int]]) -> [[Double]])?
  /// The largest magnitude that the kernel must bear; products of two must not overflow.
  package var large = 1e18
  /// Inputs that extreme values are put into.
  package var extremes: [Int] {
    derive == nil && !(op is AliasFreeSnakeBack) && type ?? .float32 == .float32
      ? floats.filter { !(op is AdamW) || $0 < 4 } : []
  }
  package var description: String { "\(op.name) \(shapes)\(type.map { " \($0)" } ?? "")" }

  package init(
    _ op: any Op, _ shapes: [[Int]], _ domain: ClosedRange<Double> = -2...2, indices: (Int, Int)? = nil,
    mask: Int? = nil, differentiable: Bool = true, type: DType? = nil, large: Double = 1e18,
    derive: (@Sendable ([[Double]], [[Int]]) -> [[Double]])? = nil
  ) {
    self.op = op
    self.shapes = shapes
    self.domain = domain
    self.mask = mask
    self.indices = indices.map { (input: $0.0, limit: $0.1) }
    self.differentiable = differentiable
    self.type = type
    // The reference's turns by π are inexact, which a large number shows.
    self.large = op.name.hasPrefix("fourier") ? 1e3 : large
    self.derive = derive
  }

  package var isEmpty: Bool { shapes.contains { $0.contains(0) } }
  /// Inputs that a gradient is taken with respect to.
  package var floats: [Int] { shapes.indices.filter { indices?.input != $0 && mask != $0 } }

  /// The type of an input where floats are kept in `storage`.
  package func type(_ input: Int, _ storage: DType) -> DType {
    if indices?.input == input { return .int32 }
    if mask == input, op.name.hasPrefix("attention") { return .bool }
    // What follows from other inputs must not be rounded apart from them.
    return derive != nil ? .float32 : type ?? storage
  }

  package func values(_ seed: UInt64, _ storage: DType = .float32) -> [[Double]] {
    var random = Philox(seed: seed, label: description)
    let drawn = shapes.enumerated().map { position, shape in
      (0..<shape.reduce(1, *)).map { _ in
        if let indices, indices.input == position {
          return Double(Int(random.uniform() * Double(indices.limit)))
        }
        if mask == position { return random.uniform() < 0.5 ? 1.0 : 0 }
        return type(position, storage).rounded(Double(Float(random.uniform(domain))))
      }
    }
    let all = derive?(drawn, shapes) ?? drawn
    return all.enumerated().map { position, values in values.map(type(position, storage).rounded) }
  }

  /// A recording of the op on inputs `x0`, `x1`, …
  package struct Recording {
    package let graph: Graph
    package let inputs: [Tensor]
    package let results: [Tensor]
    /// Of the first result, weighted, with respect to `floats`.
    package let gradients: [Tensor]
    private let weights: Tensor

    package init(_ test: OpCase, _ view: InputView = .plain, _ storage: DType = .float32) throws {
      let graph = Graph()
      let inputs = try test.shapes.indices.map { i in
        let (name, shape, type) = ("x\(i)", test.shapes[i], test.type(i, storage))
        switch view {
        case .permuted where shape.count > 1:
          return try graph.input(name, shape.reversed(), type).permuted((0..<shape.count).reversed())
        case .sliced where !shape.isEmpty:
          let wide = Array(shape.dropLast()) + [(shape.last ?? 0) + 3]
          return try graph.input(name, wide, type).sliced(
            axis: shape.count - 1, from: 2, count: shape.last ?? 0)
        default: return try graph.input(name, shape, type)
        }
      }
      let results = try graph.apply(test.op, inputs)
      var random = Philox(seed: 3)
      let drawn = (0..<results[0].shape.reduce(1, *)).map { _ in Float(random.uniform(-1...1)) }
      let weights = try graph.constant(drawn, results[0].shape)
      (self.graph, self.inputs, self.results, self.weights) = (graph, inputs, results, weights)
      gradients =
        test.differentiable
        ? try graph.gradients(
          of: results[0], weightedBy: weights, withRespectTo: test.floats.map { inputs[$0] }) : []
    }

    /// The scalar whose gradients are `gradients`.
    package func loss() throws -> Tensor { try (results[0] * weights).total() }
  }

  /// What is given to the input `index` so that it has `values` after its view.
  package func given(_ index: Int, _ values: [Double], _ view: InputView, _ storage: DType) throws
    -> HostTensor
  {
    let shape = shapes[index]
    let type = type(index, storage)
    let floats = values.map { Float($0) }
    switch view {
    case .permuted where shape.count > 1:
      var moved = [Float](repeating: 0, count: floats.count)
      var position = 0
      let turned = Array(shape.reversed())
      Broadcast.forEachIndex(shape) { place in
        moved[zip(place.reversed(), turned).reduce(0) { $0 * $1.1 + $1.0 }] = floats[position]
        position += 1
      }
      return try HostTensor(moved, turned).cast(to: type)
    case .sliced where !shape.isEmpty:
      let width = shape.last ?? 0
      let rows = shape.dropLast().reduce(1, *)
      var wide: [Float] = []
      for row in 0..<rows {
        wide += [.nan, .nan] + floats[row * width..<(row + 1) * width] + [.nan]
      }
      return try HostTensor(wide, shape.dropLast() + [width + 3]).cast(to: type)
    default: return try HostTensor(floats, shape).cast(to: type)
    }
  }

  /// The program of outputs and gradients `y0`, `y1`, ….
  package func program(
    on backend: any Backend, _ view: InputView = .plain, _ storage: DType = .float32
  ) throws -> Program {
    let recording = try Recording(self, view, storage)
    var outputs: [String: Tensor] = [:]
    for (i, tensor) in (recording.results + recording.gradients).enumerated() { outputs["y\(i)"] = tensor }
    return try Program(recording.graph, outputs: outputs, parameters: ParameterStore(backend))
  }

  /// Outputs and gradients as a device computes them.
  package func run(
    _ values: [[Double]], on backend: any Backend, _ view: InputView = .plain, _ storage: DType = .float32
  ) throws -> [[Float]] {
    let program = try program(on: backend, view, storage)
    var feed: [String: HostTensor] = [:]
    for i in shapes.indices { feed["x\(i)"] = try given(i, values[i], view, storage) }
    let out = try program.run(feed)
    return (0..<out.count).map { out["y\($0)"]?.floats ?? [] }
  }

  /// The same in double precision, by the references.
  package func reference(_ values: [[Double]]) throws -> [[Double]] {
    let recording = try Recording(self)
    return ReferenceRun(graph: recording.graph).values(
      recording.results + recording.gradients, OpCase.named(values))
  }

  package static func named(_ values: [[Double]]) -> [String: [Double]] {
    Dictionary(uniqueKeysWithValues: values.enumerated().map { ("x\($0)", $1) })
  }
}
