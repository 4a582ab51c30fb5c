@testable package import FlowTensor

/// A graph in double precision: every op computed by its reference.
package struct ReferenceRun {
  let graph: Graph

  /// Of the ops in `graph`.
  package init(graph: Graph) { self.graph = graph }

  /// The values of `outputs` for the inputs by name.
  package func values(_ outputs: [Tensor], _ inputs: [String: [Double]]) -> [[Double]] {
    var known: [Int: [[Double]]] = [:]
    func value(_ tensor: Tensor) -> [Double] { known[tensor.node]?[tensor.output] ?? [] }
    for index in 0...(outputs.map(\.node).max() ?? 0) {
      switch graph.nodes[index].source {
      case .input(let name), .parameter(let name): known[index] = [inputs[name] ?? []]
      case .constant(let values): known[index] = [values.floats.map(Double.init)]
      case .op(let op, let from): known[index] = op.reference(from.map(value), from.map(\.shape))
      }
    }
    return outputs.map(value)
  }
}
