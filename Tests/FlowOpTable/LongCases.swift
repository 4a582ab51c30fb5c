@testable import FlowTensor

extension OpCase {
  /// Sizes that kernels cut in pieces, move several elements of at once, or turn tile by tile, and ones that just don't allow
  /// it.
  static let long: [OpCase] = {
    func turned(_ order: [Int], _ shape: [Int]) -> OpCase {
      let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
      let op = StridedCopy(
        kind: .permute(order), shape: order.map { shape[$0] }, strides: order.map { strides[$0] }, offset: 0)
      return OpCase(op, [shape], differentiable: false)
    }
    let reduced: [OpCase] = [
      ([0, 2], [2, 5, 20_001]), ([0, 2], [3, 33, 1024]), ([0, 2], [3, 4, 19_996]), ([1], [2, 300, 40]),
      ([0], [700, 37]), ([1], [2, 40_000]), ([1], [3, 2049]), ([0, 2, 4], [2, 3, 2, 3, 2]),
      ([0, 1], [33_000, 1]),
    ].map { OpCase(Sum(axes: $0.0), [$0.1], differentiable: false) }
    let rows: [OpCase] = [[2, 2052], [2, 2051], [1, 9001]].flatMap { shape in
      [
        OpCase(Softmax(), [shape], differentiable: false),
        OpCase(RMSNormalize(epsilon: 1e-6), [shape], differentiable: false),
      ]
    }
    var moved = [
      turned([1, 0], [70, 66]), turned([0, 2, 1, 3], [2, 7, 3, 64]), turned([0, 2, 1], [2, 65, 131]),
      turned([3, 1, 2, 0], [9, 2, 3, 20]), turned([2, 0, 3, 1], [8, 12, 10, 16]),
      OpCase(Concatenate(axis: 1), [[5, 64], [5, 128], [5, 8]], differentiable: false),
      OpCase(Pad(axis: 1, before: 8, after: 4, mode: .zero), [[3, 64, 2]], differentiable: false),
      OpCase(Frame(window: 64, hop: 16), [[3, 512]], differentiable: false),
      OpCase(OverlapAdd(hop: 16, length: 512), [[3, 29, 64]], differentiable: false),
      OpCase(Gather(), [[301, 132], [77]], indices: (1, 301), differentiable: false),
      OpCase(ScatterAdd(rows: 301), [[700, 132], [700]], indices: (1, 301), differentiable: false),
      OpCase(AdamW(), [[9001], [9001], [9001], [9001], [4]], 0.1...0.9, differentiable: false, large: 1e15),
    ]
    // More axes than a fused group has.
    moved.append(
      OpCase(Binary(.add), [[2, 1, 2, 1, 3, 1, 2, 1], [1, 2, 1, 3, 1, 2, 1, 2]], differentiable: false))
    var spectra: [OpCase] = []
    for (size, hop, frames) in [(1024, 1024, 2), (32, 8, 71), (300, 300, 1), (2048, 512, 1)] {
      let length = size + (frames - 1) * hop
      let bins = [1, frames, size / 2 + 1]
      spectra.append(OpCase(Fourier(hop: hop), [[1, length], [size]], differentiable: false))
      spectra.append(
        OpCase(FourierBack(hop: hop, length: length), [bins, bins, [size]], differentiable: false))
    }
    return reduced + rows + moved + spectra
  }()
}
