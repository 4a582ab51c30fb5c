import FlowTensor

@testable import FlowTensorCUDA

/// Programs of one fused group over rows, whose kernel has several forms.
enum RowGroups: String, CaseIterable, Sendable {
  /// A norm, and one of heads that are turned by their position, alone and for queries and keys at once; their gradients;
  /// weights that add up to one, of a norm.
  case norm, turned, pair, normBack, turnedBack, pairBack, softmax

  /// Rows that no form's blocks take without a rest, and more of them than all blocks take at once; a width that a block's
  /// threads reach beyond, or that half a warp has.
  var shapes: [[Int]] {
    switch self {
    case .norm: [[1601, 264], [37, 2048]]
    case .turned, .pair: [[2, 404, 16, 128]]
    case .normBack: [[3205, 264]]
    case .turnedBack, .pairBack: [[2, 404, 16, 128]]
    case .softmax: [[1603, 520]]
    }
  }
  /// Of a published size.
  var published: [Int] {
    switch self {
    case .norm, .normBack, .softmax: [4, 2300, 2048]
    case .turned, .pair, .turnedBack, .pairBack: [4, 2300, 16, 128]
    }
  }

  /// Of an input [.., W] in `type`.
  func program(_ shape: [Int], _ type: DType, on backend: any Backend) throws -> Program {
    let graph = Graph()
    func input(_ name: String, _ shape: [Int]) throws -> Tensor {
      let x = try graph.input(name, shape, type)
      return type == .float32 ? x : try x.cast(to: .float32)
    }
    let x = try input("x", shape)
    let weight = try graph.input("w", [shape[shape.count - 1]])
    var outputs: [Tensor] = []
    switch self {
    case .norm: outputs = [try x.rmsNorm(weight)]
    case .softmax: outputs = [try x.rmsNorm(weight).softmax()]
    case .normBack:
      outputs = try graph.gradients(
        of: x.rmsNorm(weight), weightedBy: input("g", shape), withRespectTo: [x, weight])
    case .turned, .turnedBack, .pair, .pairBack:
      let table = [1, shape[1], 1, shape[3] / 2]
      let (cos, sin) = (try graph.input("cos", table), try graph.input("sin", table))
      let isPair = self == .pair || self == .pairBack
      for (number, x) in [(0, x)] + (isPair ? [(1, try input("k", shape))] : []) {
        let weight = number == 0 ? weight : try graph.input("v", [shape[3]])
        let y = try x.rmsNorm(weight).rotated(cos: cos, sin: sin)
        if self == .turned || self == .pair {
          outputs.append(y)
        } else {
          let g = try input("g\(number)", shape)
          outputs += try graph.gradients(of: y, weightedBy: g, withRespectTo: [x, weight])
        }
      }
    }
    let named = Dictionary(uniqueKeysWithValues: outputs.enumerated().map { ("y\($0)", $1) })
    return try Program(graph, outputs: named, parameters: ParameterStore(backend))
  }
}
