@testable import FlowTensor

extension OpCase {
  /// Ops along one axis, masks, and copies in another order.
  static let axes: [OpCase] = {
    var cases: [OpCase] = []
    for largest in [true, false] {
      cases.append(OpCase(Extreme(axes: 1...1, largest: largest), [[3, 7]]))
      cases.append(OpCase(Extreme(axes: 0...1, largest: largest), [[3, 5, 2]]))
      cases.append(OpCase(Extreme(axes: 1...2, largest: largest), [[2, 9, 11]]))
      cases.append(OpCase(Extreme(axes: 0...0, largest: largest), [[4, 131]]))
      cases.append(OpCase(ArgExtreme(axis: 1, largest: largest), [[3, 37]], differentiable: false))
      cases.append(OpCase(ArgExtreme(axis: 0, largest: largest), [[5, 70]], differentiable: false))
    }
    for reverse in [false, true] {
      cases.append(OpCase(CumulativeSum(axis: 1, reverse: reverse), [[2, 7, 3]]))
      cases.append(OpCase(CumulativeSum(axis: 0, reverse: reverse), [[6]]))
      cases.append(OpCase(CumulativeSum(axis: 0, reverse: reverse), [[3, 67]]))
    }
    cases.append(OpCase(OneHot(classes: 5), [[2, 3]], indices: (0, 5)))
    cases.append(OpCase(TakeAlong(axis: 1), [[2, 7, 3], [2, 4, 3]], indices: (1, 7)))
    cases.append(OpCase(TakeAlong(axis: 0), [[5], [9]], indices: (1, 5)))
    cases.append(OpCase(PutAlong(axis: 1, count: 4), [[2, 7, 3], [2, 7, 3]], indices: (1, 4)))
    cases.append(OpCase(PutAlong(axis: 1, count: 9), [[3, 5], [3, 5]], indices: (1, 9)))
    for (shape, axis, rows, room) in [
      ([2, 7, 3], 1, 4, 4), ([9], 0, 2, 8), ([3, 2, 6, 8], 2, 6, 1), ([2, 5], 1, 0, 6),
    ] {
      var part = shape
      part[axis] = rows
      cases.append(
        OpCase(PutRows(axis: axis), [shape, part, [1]], indices: (2, room), differentiable: false))
    }
    cases.append(OpCase(Binary(.mask), [[3, 5], [5]], mask: 1))
    cases.append(
      OpCase(StridedCopy(kind: .flip([1]), shape: [2, 3, 4], strides: [12, -4, 1], offset: 8), [[2, 3, 4]]))
    cases.append(
      OpCase(StridedCopy(kind: .flip([0, 1]), shape: [5, 3], strides: [-3, -1], offset: 14), [[5, 3]]))
    return cases
  }()
}
