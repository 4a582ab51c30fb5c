import FlowCore
import FlowOpTable
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// Uses of ops that are large enough for the tensor cores' kernels, whose operands are all bfloat16: each op's inputs,
/// results and gradients are intermediate values here.
enum TensorCores {
  /// Sizes just above and below those of tiles; heads of widths that tiles are filled up to.
  static let cases: [OpCase] = attention + convolutions + snakes + products

  /// With a short side; the gradients have it elsewhere.
  private static let products: [OpCase] = [(320, 16), (576, 8), (1024, 24), (320, 64)].flatMap { long, rank in
    [
      OpCase(MatMul(transposeA: false, transposeB: false), [[270, long], [long, rank]]),
      OpCase(MatMul(transposeA: false, transposeB: true), [[270, long], [rank, long]]),
      OpCase(MatMul(transposeA: true, transposeB: false), [[270, rank], [270, long]]),
      OpCase(MatMul(transposeA: false, transposeB: true), [[270, rank], [long, rank]]),
    ]
  }

  private static let attention: [OpCase] = {
    // B, H, N, D; keys; batches and heads of the mask.
    let sizes: [([Int], Int, [Int])] = [
      ([1, 2, 65, 64], 130, [1, 1]), ([1, 1, 130, 128], 63, [1, 1]), ([2, 1, 64, 16], 64, [2, 1]),
      ([1, 2, 40, 48], 200, [1, 2]), ([1, 1, 1, 96], 129, [1, 1]),
      // Longer than the copies are ahead by.
      ([1, 1, 70, 64], 450, [1, 1]), ([1, 1, 450, 80], 70, [1, 1]),
    ]
    return sizes.map { q, keys, mask in
      let k = [q[0], q[1], keys, q[3]]
      return OpCase(Attention(scale: 0.2), [q, k, k, mask + [q[2], keys]], mask: 3)
    }
  }()

  private static let convolutions: [OpCase] = {
    var cases: [OpCase] = []
    // Channels in and out, length, stride, padding, dilation, taps.
    for (channels, outputs, length, stride, padding, dilation, taps) in [
      (24, 40, 150, 1, 3, 1, 7), (72, 136, 70, 1, 2, 2, 3), (130, 20, 140, 2, 1, 1, 4),
      (9, 8, 300, 1, 25, 5, 11),
      (64, 64, 33, 3, 0, 1, 3),
    ] {
      let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
      cases.append(
        OpCase(Convolve(geometry: geometry), [[2, channels, length], [outputs, channels, taps]]))
    }
    let up = ConvolutionShape(stride: 5, padding: 3)
    cases.append(OpCase(ConvolveBack(geometry: up, length: 23 * 5 - 6 + 11), [[1, 80, 24], [80, 40, 11]]))
    return cases
  }()

  /// Rows of several stretches, and of one between two ends.
  private static let snakes = [[2, 5, 232], [1, 3, 88]].map { shape in
    OpCase(AliasFreeSnake(logScale: true), [shape, [shape[1]], [shape[1]]], -1...1)
  }

  /// Twice the results and gradients of an op whose inputs `x0`, `x1`, …, and the gradient `g` that comes to it, are given
  /// in bfloat16.
  private static func record(_ test: OpCase) throws -> (graph: Graph, outputs: [Tensor]) {
    let graph = Graph()
    let inputs = try test.shapes.enumerated().map { index, shape in
      let input = try graph.input("x\(index)", shape, test.type(index, .bfloat16))
      return test.mask == index ? input : try input.cast(to: .float32)
    }
    let results = try graph.apply(test.op, inputs)
    let weights = try graph.input("g", results[0].shape, .bfloat16).cast(to: .float32)
    let gradients = try graph.gradients(
      of: results[0], weightedBy: weights, withRespectTo: test.floats.map { inputs[$0] })
    return (graph, try (results + gradients).map { try $0 * 2 })
  }

  static func program(_ test: OpCase, on backend: any Backend) throws -> Program {
    let (graph, outputs) = try record(test)
    let named = outputs.enumerated().map { ("y\($0)", $1) }
    return try Program(
      graph, outputs: Dictionary(uniqueKeysWithValues: named), parameters: ParameterStore(backend))
  }

  /// ‖found − wanted‖ / ‖wanted‖ of each result and gradient.
  static func errors(_ test: OpCase, on backend: any Backend) throws -> [Double] {
    let (graph, outputs) = try record(test)
    var given: [String: [Double]] = [:]
    var feed: [String: HostTensor] = [:]
    for (index, values) in test.values(4, .bfloat16).enumerated() {
      given["x\(index)"] = values
    }
    var random = Philox(seed: 6)
    let shape = outputs[0].shape
    given["g"] = (0..<shape.reduce(1, *)).map { _ in DType.bfloat16.rounded(random.uniform(-1...1)) }
    for (index, shape) in test.shapes.enumerated() {
      feed["x\(index)"] = try HostTensor((given["x\(index)"] ?? []).map { Float($0) }, shape)
        .cast(to: test.type(index, .bfloat16))
    }
    feed["g"] = try HostTensor((given["g"] ?? []).map { Float($0) }, shape).cast(to: .bfloat16)
    let found = try program(test, on: backend).run(feed)
    return try ReferenceRun(graph: graph).values(outputs, given).enumerated().map { index, wanted in
      let values = try #require(found["y\(index)"]).floats
      var (error, size) = (0.0, 0.0)
      for (value, want) in zip(values, wanted) {
        error += (Double(value) - want) * (Double(value) - want)
        size += want * want
      }
      return values.count == wanted.count ? (error / size).squareRoot() : .infinity
    }
  }
}
