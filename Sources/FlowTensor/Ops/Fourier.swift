/// Frames of the last axis through the real discrete Fourier transform: x [..., T] and a window [N] to re, im
/// [..., frames, N / 2 + 1], frames = (T - N) / hop + 1, bin k of a frame being Σ x_t w_t e^(-2πikt/N).
package struct Fourier: Op {
  /// Samples between frames.
  package let hop: Int
  package var name: String { "fourier" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2, ranks: 1...Int.max)
    try require(
      inputs[1].count == 1 && inputs[1][0] > 0, inputs, "the window has one axis, of a sample at least")
    let frames = try Frame(window: inputs[1][0], hop: hop).outputShapes([inputs[0]])[0]
    let bins: [Int] = frames.dropLast() + [inputs[1][0] / 2 + 1]
    return [bins, bins]
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, window) = (context.inputs[0], context.inputs[1])
    let g = try context.upstreamOrZero()
    let back = FourierBack(hop: hop, length: x.shape[x.rank - 1])
    return [
      try x.graph.apply(back, g + [window])[0],
      try Fourier.windowGradient(frames: x.framed(window: window.shape[0], hop: hop), g[0], g[1]),
    ]
  }
  /// The sum over all frames of their samples times what bins re, im are made of.
  static func windowGradient(frames: Tensor, _ re: Tensor, _ im: Tensor) throws(TensorError) -> Tensor {
    let count = frames.shape[frames.rank - 1]
    let ones = try re.graph.constant([Float](repeating: 1, count: count), [count])
    let single: [Int] = re.shape.dropLast() + [1, re.shape[re.rank - 1]]
    let waves = try re.graph.apply(
      FourierBack(hop: 1, length: count), [re.reshaped(single), im.reshaped(single), ones])[0]
    return try (frames * waves).sum(Array(0..<frames.rank - 1)).reshaped([count])
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let size = shapes[1][0]
    let frames = Frame(window: size, hop: hop).reference([inputs[0]], [shapes[0]])[0]
    let wave = FourierWave(size)
    var (re, im): ([Double], [Double]) = ([], [])
    for start in stride(from: 0, to: frames.count, by: size) {
      for k in 0...size / 2 {
        var (c, s) = (0.0, 0.0)
        for t in 0..<size {
          let value = frames[start + t] * inputs[1][t]
          c += value * wave.cosine(k * t)
          s -= value * wave.sine(k * t)
        }
        re.append(c)
        im.append(s)
      }
    }
    return [re, im]
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    FourierWave.flops(frames: Array(outputs[0].dropLast()).elements, inputs[1][0])
  }
}

/// The transpose of `Fourier` in x: re, im [..., frames, N / 2 + 1] and a window [N] to [..., length], the sum of the
/// frames w_t Σ_k (re_k cos(2πkt/N) - im_k sin(2πkt/N)) at their places.
package struct FourierBack: Op {
  /// Samples between frames.
  package let hop: Int
  /// Samples of the result.
  package let length: Int
  package var name: String { "fourier-back" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs.count == 3, inputs, "it takes 3 inputs")
    try require(
      inputs[0] == inputs[1] && inputs[0].count >= 2 && inputs[2].count == 1 && inputs[2][0] > 0
        && inputs[0].last == inputs[2][0] / 2 + 1,
      inputs, "re and im [..., frames, N / 2 + 1] have a window [N]")
    return try OverlapAdd(hop: hop, length: length).outputShapes([inputs[0].dropLast() + inputs[2]])
  }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (re, im, window, g) = (context.inputs[0], context.inputs[1], context.inputs[2], try context.g)
    let used = (re.shape[re.rank - 2] - 1) * hop + window.shape[0]
    let slice = try g.sliced(axis: g.rank - 1, from: 0, count: used)
    let flows = try g.graph.apply(Fourier(hop: hop), [slice, window])
    let frames = try slice.framed(window: window.shape[0], hop: hop)
    return [flows[0], flows[1], try Fourier.windowGradient(frames: frames, re, im)]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let (size, bins) = (shapes[2][0], shapes[0][shapes[0].count - 1])
    let wave = FourierWave(size)
    var frames: [Double] = []
    for start in stride(from: 0, to: inputs[0].count, by: bins) {
      for t in 0..<size {
        let sum = (0..<bins).reduce(0.0) { sum, k in
          sum + inputs[0][start + k] * wave.cosine(k * t) - inputs[1][start + k] * wave.sine(k * t)
        }
        frames.append(sum * inputs[2][t])
      }
    }
    return OverlapAdd(hop: hop, length: length).reference([frames], [shapes[0].dropLast() + [size]])
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    FourierWave.flops(frames: Array(inputs[0].dropLast()).elements, inputs[2][0])
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    Array(inputs[0].dropLast()).elements * inputs[2][0]
  }
}

/// Cosines and sines of whole multiples of a turn's N-th part.
private struct FourierWave {
  private let cosines: [Double]
  private let sines: [Double]
  init(_ size: Int) {
    let angles = (0..<size).map { 2 * Double.pi * Double($0) / Double(size) }
    cosines = angles.map(UnaryFunction.cos.value)
    sines = angles.map(UnaryFunction.sin.value)
  }
  func cosine(_ k: Int) -> Double { cosines[k % cosines.count] }
  func sine(_ k: Int) -> Double { sines[k % sines.count] }
  /// 2.5 N log2 N for a real frame, as usual.
  static func flops(frames: Int, _ size: Int) -> Int {
    frames * size * 5 * (Int.bitWidth - size.leadingZeroBitCount) / 2
  }
}

extension GradientContext {
  /// The gradients of all outputs, zeros where there is none.
  func upstreamOrZero() throws(TensorError) -> [Tensor] {
    var result: [Tensor] = []
    for (flow, output) in zip(upstream, outputs) {
      if let flow {
        result.append(flow)
      } else {
        try result.append(output.graph.constant(0).broadcast(to: output.shape))
      }
    }
    return result
  }
}
