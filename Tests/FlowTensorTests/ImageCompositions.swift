@testable import FlowTensor

extension Composition {
  static let images: [Composition] = [
    Composition("conv2d", [[2, 4, 5, 6], [6, 2, 3, 2], [6]]) { (x) throws(TensorError) in
      try x[0].conv2d(x[1], x[2], ConvolutionShape2D(stride: [2, 1], padding: [1, 1], groups: 2)).square()
    },
    Composition("transposed conv2d", [[2, 4, 3, 4], [4, 3, 3, 2], [6]]) { (x) throws(TensorError) in
      let shape = ConvolutionShape2D(stride: [2, 3], padding: [1, 0], dilation: [2, 1], groups: 2)
      return try x[0].convTranspose2d(x[1], x[2], shape, outputPadding: [1, 2]).square()
    },
    Composition("conv2d, mirrored", [[1, 1, 4, 5], [2, 1, 3, 3]]) { (x) throws(TensorError) in
      try x[0].conv2d(x[1], nil, ConvolutionShape2D(padding: [1, 2]), mode: .reflect).square()
    },
    Composition("conv1d in groups", [[2, 4, 9], [8, 1, 3], [8]]) { (x) throws(TensorError) in
      try x[0].conv1d(x[1], x[2], stride: 2, padding: 1, groups: 4).square()
    },
    Composition("conv1d, circular", [[2, 2, 9], [3, 2, 5]]) { (x) throws(TensorError) in
      try x[0].conv1d(x[1], padding: 4, mode: .circular, dilation: 2).square()
    },
    Composition("transposed conv1d in groups", [[2, 4, 5], [4, 3, 4], [6]]) { (x) throws(TensorError) in
      try x[0].convTranspose1d(x[1], x[2], stride: 3, padding: 1, dilation: 2, groups: 2, outputPadding: 1)
        .square()
    },
    Composition("max pool", [[2, 3, 11]], smooth: false) { (x) throws(TensorError) in
      try x[0].maxPool1d(3, stride: 2, padding: 1).square()
    },
    Composition("average pool", [[2, 3, 6, 7]]) { (x) throws(TensorError) in
      try x[0].averagePool2d(PoolShape([2, 3], stride: [2, 2], padding: [1, 1])).square()
    },
    Composition("average pool of a row", [[3, 12]]) { (x) throws(TensorError) in
      try x[0].averagePool1d(4, stride: 2, padding: 1).square()
    },
    Composition("interpolate", [[2, 4, 5]]) { (x) throws(TensorError) in
      try x[0].square().interpolated([7, 3], .linear).square()
    },
  ]
}
