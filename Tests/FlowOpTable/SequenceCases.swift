@testable import FlowTensor

extension OpCase {
  /// Spectra and recurrences.
  static let sequences: [OpCase] = {
    var cases: [OpCase] = []
    for (shape, size, hop) in [
      ([16], 16, 1), ([3, 12], 12, 5), ([2, 40], 8, 4), ([2, 2, 23], 9, 3), ([3], 1, 1), ([31], 2, 3),
    ] {
      let frames = ((shape.last ?? 0) - size) / hop + 1
      cases.append(OpCase(Fourier(hop: hop), [shape, [size]]))
      let bins: [Int] = shape.dropLast() + [frames, size / 2 + 1]
      cases.append(OpCase(FourierBack(hop: hop, length: shape.last ?? 0), [bins, bins, [size]]))
    }
    for (steps, batch, units) in [(1, 1, 1), (3, 2, 5), (4, 3, 18), (2, 1, 66)] {
      for reverse in [false, true] {
        let state = [batch, units]
        cases.append(
          OpCase(
            LSTM(reverse: reverse), [[steps, batch, 4 * units], [4 * units, units], state, state], -0.8...0.8)
        )
        let outer = [steps, batch, units]
        cases.append(
          OpCase(
            LSTMBack(reverse: reverse),
            [outer, outer, [4 * units, units], state, outer, [steps, batch, 4 * units]], 0.1...0.9,
            differentiable: false))
      }
    }
    // Labels of which some are zeros, some can't come in so few steps, and some follow their like.
    for (batch, steps, classes, labels) in [
      (3, 7, 4, 3), (2, 5, 3, 4), (1, 1, 2, 1), (2, 4, 1, 2), (2, 3, 5, 0),
    ] {
      cases.append(
        OpCase(
          CTC(), [[batch, steps, classes], [batch, labels]], -3...0, indices: (1, classes), large: 5))
    }
    return cases
  }()
}
