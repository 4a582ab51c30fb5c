@testable import FlowTensor

extension OpCase {
  /// Convolutions in two dimensions and in groups, windows, interpolation.
  static let images: [OpCase] = {
    var cases: [OpCase] = []
    typealias Shape = ConvolutionShape2D
    // (geometry, taps, in and out of a group, image)
    let convolutions: [(Shape, [Int], Int, Int, [Int])] = [
      (Shape(), [1, 1], 3, 4, [5, 3]), (Shape(padding: [1, 1]), [3, 3], 2, 3, [5, 7]),
      (Shape(stride: [3, 1], padding: [2, 0]), [5, 1], 2, 3, [11, 3]),
      (Shape(stride: [1, 2], padding: [1, 4]), [3, 9], 1, 2, [4, 13]),
      (Shape(padding: [2, 3], dilation: [2, 3]), [3, 3], 2, 2, [6, 8]),
      (Shape(stride: [2, 2], padding: [1, 1], groups: 3), [3, 2], 2, 1, [6, 5]),
      (Shape(stride: [1, 3], padding: [0, 4], groups: 4), [1, 9], 1, 1, [1, 31]),
      (Shape(padding: [3, 0], groups: 2), [3, 1], 1, 2, [3, 3]),
      (Shape(stride: [4, 4], padding: [0, 1], dilation: [1, 2], groups: 2), [2, 3], 3, 5, [9, 9]),
      (Shape(), [2, 2], 70, 3, [3, 3]), (Shape(stride: [3, 1], padding: [2, 0]), [5, 1], 5, 6, [11, 3]),
      (Shape(stride: [1, 2], padding: [1, 4], groups: 2), [3, 9], 4, 5, [4, 13]),
      (Shape(stride: [2, 3], padding: [1, 2], dilation: [3, 2]), [2, 3], 4, 1, [8, 9]),
      (Shape(stride: [3, 2]), [1, 1], 5, 2, [7, 5]), (Shape(padding: [3, 2]), [3, 2], 4, 3, [1, 70]),
      (Shape(padding: [0, 5]), [1, 3], 1, 2, [1, 700]),
    ]
    for (g, taps, inputs, outputs, image) in convolutions {
      let batch = image[1] > 100 ? 1 : 2
      let (x, w) = ([batch, inputs * g.groups] + image, [outputs * g.groups, inputs] + taps)
      let result =
        [batch, outputs * g.groups] + (0..<2).map { g.outputLength($0, image[$0], taps: taps[$0]) }
      cases.append(OpCase(Convolve2D(geometry: g), [x, w]))
      cases.append(OpCase(Convolve2DBack(geometry: g, size: image), [result, w]))
      cases.append(OpCase(Convolve2DWeight(geometry: g, taps: taps), [x, result]))
    }
    let windows = [
      (PoolShape([2, 2]), [2, 4, 6]), (PoolShape([3, 2], stride: [1, 2], padding: [1, 1]), [5, 7]),
      (PoolShape([1, 5], stride: [1, 2], padding: [0, 2]), [3, 1, 17]), (PoolShape([2, 2]), [3, 3]),
    ]
    for (geometry, shape) in windows {
      // Keys of zeros and ones: many equals, of which the first is taken.
      cases.append(OpCase(WindowTake(geometry: geometry), [shape, shape], mask: 0))
      let result = try? geometry.output(WindowTake(geometry: geometry), [], shape)
      cases.append(OpCase(WindowPut(geometry: geometry), [shape, result ?? []], mask: 0))
    }
    for mode in Interpolation.allCases {
      for (shape, axis, count) in [
        ([2, 5], 1, 10), ([2, 7, 3], 1, 4), ([1], 0, 3), ([3, 11], 1, 17), ([4, 2], 0, 1),
      ] {
        cases.append(OpCase(Resample(axis: axis, count: count, mode: mode), [shape]))
        var wide = shape
        wide[axis] = count
        cases.append(OpCase(ResampleBack(axis: axis, count: shape[axis], mode: mode), [wide]))
      }
    }
    return cases
  }()
}
