@testable import FlowTensor

/// Every op with inputs to test it on. An op that is not here fails `OpTests.everyOpIsInTheTable`.
extension OpCase {
  package static let all: [OpCase] =
    elementwise + casts + arrangements + reductions + rotations + products + attentions + convolutions + draws
    + axes
    + images + channels
    + sequences + long

  private static let elementwise: [OpCase] = {
    var cases: [OpCase] = []
    for function in UnaryFunction.allCases {
      for shape in [[3, 7], [1031], [], [0, 3]] {
        cases.append(OpCase(Unary(function), [shape], function.domain, large: 3e38))
      }
    }
    let pairs: [[[Int]]] = [
      [[2, 3, 5], [2, 3, 5]], [[2, 3, 5], [5]], [[4, 1, 3], [1, 6, 1]], [[3, 4], []], [[1], [7]],
      [[1033], [1033]], [[0, 3], [3]], [[2, 1], [2, 0]],
    ]
    for function in BinaryFunction.allCases {
      for pair in pairs { cases.append(OpCase(Binary(function), pair, 0.4...2, large: 3e38)) }
    }
    for shape in [[3, 7], [1031], [], [5, 0]] {
      cases.append(OpCase(Affine(scale: -1.5, offset: 0.25), [shape]))
    }
    for (logScale, domain) in [(true, -1.0...1), (false, 0.5...1.5)] {
      let (op, back) = (AliasFreeSnake(logScale: logScale), AliasFreeSnakeBack(logScale: logScale))
      for (b, c, t) in [(2, 3, 19), (1, 2, 5), (1, 2, 1), (0, 2, 5), (1, 2, 0)] {
        cases.append(OpCase(op, [[b, c, t], [c], [c]], domain, large: 5))
        cases.append(
          OpCase(back, [[b, c, t], [b, c, t], [c], [c]], domain, differentiable: false))
      }
    }
    for shape in [[5], [3, 347], [0]] {
      cases.append(
        OpCase(AdamW(), [shape, shape, shape, shape, [4]], 0.1...0.9, differentiable: false, large: 1e15))
    }
    return cases
  }()

  /// Ops that take every type, with each.
  private static let casts: [OpCase] = DType.allCases.flatMap { from in
    let domain = from == .int32 ? -70_000...70_000 : from == .bool ? -0.0...0 : -3.0...3
    let moved: [OpCase] = [
      OpCase(StridedCopy.whole([2, 5]), [[2, 5]], domain, differentiable: false, type: from),
      OpCase(
        StridedCopy(kind: .permute([1, 0]), shape: [3, 37], strides: [1, 3], offset: 0), [[37, 3]], domain,
        differentiable: false, type: from),
      OpCase(
        StridedCopy(kind: .slice(axis: 0, start: 3, count: 2), shape: [2], strides: [1], offset: 3), [[7]],
        domain, differentiable: false, type: from),
      OpCase(
        Concatenate(axis: 1), [[3, 1], [3, 0], [3, 4]], domain, differentiable: false, type: from),
      OpCase(Reshape(shape: [6]), [[2, 3]], domain, differentiable: false, type: from),
      OpCase(Detach(), [[5]], domain, differentiable: false, type: from),
    ]
    return moved
      + DType.allCases.flatMap { to in
        [[3, 7], [40_001], [], [0, 3]].map { shape in
          // Rounding has no slope.
          OpCase(
            Cast(to: to), [shape], domain, differentiable: from.isFloat && to == .float32, type: from)
        }
      }
  }

  private static let arrangements: [OpCase] = {
    var cases = [
      OpCase(Reshape(shape: [4, 3]), [[2, 6]]), OpCase(Reshape(shape: []), [[1, 1]]),
      OpCase(Reshape(shape: [0, 7]), [[0]]),
      OpCase(Concatenate(axis: 1), [[2, 3, 2], [2, 1, 2], [2, 4, 2]]),
      OpCase(Concatenate(axis: 0), [[3], [0], [130]]),
      OpCase(Concatenate(axis: 2), [[0, 3, 2], [0, 3, 5]]),
      OpCase(Frame(window: 5, hop: 3), [[2, 17]]), OpCase(Frame(window: 4, hop: 1), [[1, 4]]),
      OpCase(Frame(window: 2, hop: 3), [[3, 11]]), OpCase(Frame(window: 4, hop: 1), [[0, 9]]),
      OpCase(OverlapAdd(hop: 2, length: 13), [[2, 4, 5]]),
      OpCase(OverlapAdd(hop: 7, length: 31), [[3, 3, 5]]),
      OpCase(OverlapAdd(hop: 2, length: 9), [[0, 2, 5]]),
      OpCase(Gather(), [[7, 3], [2, 4]], indices: (1, 7)),
      OpCase(Gather(), [[3, 33], [5]], indices: (1, 3)),
      OpCase(Gather(), [[3, 2], [0]], indices: (1, 3)), OpCase(Gather(), [[3, 0], [4]], indices: (1, 3)),
      OpCase(ScatterAdd(rows: 5), [[2, 3, 4], [2, 3]], indices: (1, 5)),
      OpCase(ScatterAdd(rows: 2), [[41, 17], [41]], indices: (1, 2)),
      OpCase(ScatterAdd(rows: 3), [[0, 4], [0]], indices: (1, 3)),
    ]
    for mode in Pad.Mode.allCases {
      cases.append(OpCase(Pad(axis: 1, before: 3, after: 2, mode: mode), [[2, 5]]))
      cases.append(OpCase(Pad(axis: 1, before: 0, after: 1, mode: mode), [[3, 2]]))
      cases.append(OpCase(Pad(axis: 1, before: 2, after: 1, mode: mode), [[0, 4]]))
      cases.append(OpCase(Unpad(before: 3, after: 2, mode: mode), [[2, 11]]))
      cases.append(OpCase(Unpad(before: 1, after: 2, mode: mode), [[0, 7]]))
    }
    cases.append(OpCase(Pad(axis: 0, before: 1, after: 2, mode: .zero), [[2, 5]]))
    cases.append(OpCase(Pad(axis: 1, before: 2, after: 1, mode: .zero), [[3, 0, 2]]))
    let permute = StridedCopy(kind: .permute([2, 0, 1]), shape: [5, 3, 7], strides: [1, 35, 5], offset: 0)
    let repeated = StridedCopy(kind: .broadcast, shape: [4, 3, 33], strides: [0, 1, 0], offset: 0)
    let slice = StridedCopy(
      kind: .slice(axis: 1, start: 2, count: 3), shape: [2, 3, 7], strides: [35, 7, 1], offset: 14)
    let none = StridedCopy(
      kind: .slice(axis: 0, start: 1, count: 0), shape: [0, 7], strides: [7, 1], offset: 7)
    return cases + [
      OpCase(Detach(), [[3, 5]], differentiable: false), OpCase(permute, [[3, 7, 5]]),
      OpCase(repeated, [[3, 1]]), OpCase(slice, [[2, 5, 7]]),
      OpCase(none, [[3, 7]]),
    ]
  }()

  private static let reductions: [OpCase] = [
    OpCase(Sum(axes: [0, 2]), [[3, 4, 5]]), OpCase(Sum(axes: [1]), [[3, 4, 5]]),
    OpCase(Sum(axes: [0]), [[17]]), OpCase(Sum(axes: [0, 1]), [[2, 300]]),
    OpCase(Sum(axes: [0]), [[1031, 3]]), OpCase(Sum(axes: [1]), [[3, 0]]), OpCase(Sum(axes: [0]), [[3, 0]]),
    OpCase(Sum(axes: [0, 2]), [[0, 2, 3]]),
    OpCase(Softmax(), [[5, 7]]), OpCase(Softmax(), [[2, 1]]), OpCase(Softmax(), [[3, 133]]),
    OpCase(Softmax(), [[0, 5]]), OpCase(Softmax(), [[3, 0]]),
    OpCase(RMSNormalize(epsilon: 1e-6), [[4, 6]]), OpCase(RMSNormalize(epsilon: 1e-6), [[3, 1, 131]]),
    OpCase(RMSNormalize(epsilon: 1e-6), [[7, 1]], 0.5...2), OpCase(RMSNormalize(epsilon: 1e-6), [[0, 6]]),
  ]

  /// Rows within a warp, some of whose threads have none; wider and odder ones; tables of all kinds.
  private static let rotations: [OpCase] = [false, true].flatMap { inverse in
    [
      ([2, 3, 4, 16], [1, 3, 1, 8], [1, 3, 1, 8]), ([2, 5, 48], [2, 5, 24], [1, 1, 24]),
      ([7, 128], [7, 64], [7, 64]), ([3, 2], [1, 1], [3, 1]), ([5, 6], [5, 3], [1, 3]),
      ([3, 2, 66], [1, 2, 33], [3, 1, 33]), ([2, 1, 288], [1, 1, 144], [2, 1, 144]), ([64], [32], [32]),
      ([0, 3, 8], [1, 3, 4], [0, 3, 4]),
    ].map { OpCase(Rotate(inverse: inverse), [$0, $1, $2]) }
  }

  private static let products: [OpCase] = {
    var cases: [OpCase] = []
    for a in [false, true] {
      for b in [false, true] {
        let op = MatMul(transposeA: a, transposeB: b)
        func shapes(_ batch: [Int], _ m: Int, _ k: Int, _ n: Int, _ right: [Int]) -> [[Int]] {
          [batch + (a ? [k, m] : [m, k]), right + (b ? [n, k] : [k, n])]
        }
        cases.append(OpCase(op, shapes([], 3, 4, 5, [])))
        cases.append(OpCase(op, shapes([6], 1, 1, 7, [6])))
        cases.append(OpCase(op, shapes([2], 3, 4, 5, [])))
        cases.append(OpCase(op, shapes([], 3, 4, 5, [2, 3])))
        cases.append(OpCase(op, shapes([1], 3, 2, 5, [4])))
        cases.append(OpCase(op, shapes([2, 3], 17, 9, 13, [2, 3])))
        let adding = MatMulAdd(op, scale: 0.75)
        for (batch, right, sum) in [([], [], [6, 13]), ([2], [2], [2, 6, 13]), ([3], [], [9, 2, 13])] {
          cases.append(OpCase(adding, shapes(batch, 6, 9, 13, right) + [sum], differentiable: false))
        }
        let scaled = MatMulAdd(op, scale: -1.25, adds: false)
        cases.append(OpCase(scaled, shapes([2], 6, 9, 13, []), differentiable: false))
        for (m, k, n) in [(0, 4, 5), (3, 0, 5), (3, 4, 0)] {
          cases.append(OpCase(op, shapes([], m, k, n, [])))
        }
        cases.append(OpCase(op, shapes([0], 3, 4, 5, [0])))
      }
    }
    return cases
  }()

  private static let attentions: [OpCase] = {
    let (op, back) = (Attention(scale: 0.6), AttentionBack(scale: 0.6))
    // B, H, N, D; keys; batches and heads of the mask.
    let sizes: [([Int], Int, [Int])] = [
      ([1, 1, 1, 1], 1, [1, 1]), ([2, 3, 5, 4], 7, [1, 1]), ([2, 2, 3, 2], 19, [2, 1]),
      ([1, 2, 67, 3], 2, [1, 2]), ([2, 2, 4, 5], 33, [2, 2]), ([0, 2, 4, 5], 3, [1, 2]),
      ([2, 2, 0, 5], 3, [1, 1]), ([1, 2, 3, 5], 0, [1, 1]),
    ]
    return sizes.flatMap { q, keys, mask in
      let k = [q[0], q[1], keys, q[3]]
      let shapes = [q, k, k, mask + [q[2], keys]]
      return [
        OpCase(op, shapes, mask: 3, large: 1e3),
        OpCase(back, shapes + [q, Array(q[..<3]), q], mask: 3, differentiable: false, large: 1e3) {
          values, shapes in
          let forward = op.reference(Array(values[..<4]), Array(shapes[..<4]))
          return Array(values[..<4]) + forward + [values[6]]
        },
      ]
    }
  }()

  private static let convolutions: [OpCase] = {
    let geometries = [
      (1, 0, 1, 1), (1, 3, 1, 7), (1, 5, 5, 3), (2, 1, 1, 4), (3, 0, 2, 2), (5, 2, 1, 9), (1, 0, 3, 2),
      (4, 2, 1, 8),
    ]
    var cases: [OpCase] = []
    for (stride, padding, dilation, taps) in geometries {
      let geometry = ConvolutionShape(stride: stride, padding: padding, dilation: dilation)
      cases.append(OpCase(Convolve(geometry: geometry), [[2, 3, 29], [5, 3, taps]]))
      let result = geometry.outputLength(29, taps: taps)
      cases.append(OpCase(ConvolveWeight(geometry: geometry, taps: taps), [[2, 3, 29], [2, 5, result]]))
      cases.append(OpCase(Convolve(geometry: geometry), [[0, 3, 29], [5, 3, taps]]))
    }
    let same = ConvolutionShape(padding: 3)
    cases.append(OpCase(Convolve(geometry: same), [[1, 1, 131], [1, 1, 7]]))
    cases.append(OpCase(Convolve(geometry: same), [[2, 0, 9], [3, 0, 7]]))
    cases.append(OpCase(Convolve(geometry: same), [[2, 3, 9], [0, 3, 7]]))
    cases.append(OpCase(ConvolveWeight(geometry: same, taps: 7), [[0, 3, 9], [0, 2, 9]]))
    for (stride, padding, taps) in [(2, 1, 4), (5, 3, 11), (1, 0, 3), (10, 5, 20), (1, 4, 3)] {
      let geometry = ConvolutionShape(stride: stride, padding: padding)
      let op = ConvolveBack(geometry: geometry, length: 6 * stride - 2 * padding + taps)
      cases.append(OpCase(op, [[2, 4, 7], [4, 3, taps]]))
      cases.append(OpCase(op, [[0, 4, 7], [4, 3, taps]]))
    }
    return cases
  }()

  private static let draws: [OpCase] = Random.Distribution.allCases.flatMap { distribution in
    [[3, 7], [1], [1031], [0]].map { shape in
      OpCase(
        Random(distribution: distribution, shape: shape, stream: 5), [[2]], indices: (0, 1000),
        differentiable: false)
    }
  }
}
