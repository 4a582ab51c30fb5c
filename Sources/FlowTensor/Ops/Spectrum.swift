/// Spectra of real signals, as torch's `fft` and `stft` define them, real and imaginary parts apart.
public struct Spectrum {
  /// Real parts, [..., bins] or [..., frames, bins].
  public let re: Tensor
  /// Imaginary parts, likewise.
  public let im: Tensor
  /// A spectrum of both.
  public init(re: Tensor, im: Tensor) {
    self.re = re
    self.im = im
  }
}

/// How a signal is cut into frames for a short-time Fourier transform.
public struct FrameShape: Sendable, Hashable {
  /// N: samples of a frame.
  public let size: Int
  /// Samples between frames.
  public let hop: Int
  /// The window; one shorter than N is centred in it.
  public let window: [Float]
  /// Frame i is centred at i · hop: N / 2 mirrored samples are put at both ends.
  public let isCentered: Bool
  /// Bins are divided by √N.
  public let isNormalized: Bool

  /// Centred frames under Hann's window unless said.
  public init(
    size: Int, hop: Int, window: [Float]? = nil, isCentered: Bool = true, isNormalized: Bool = false
  ) {
    self.size = size
    self.hop = hop
    self.window = window ?? FrameShape.hann(size)
    self.isCentered = isCentered
    self.isNormalized = isNormalized
  }

  /// Hann's window of `count` samples, periodic: (1 - cos(2πi / count)) / 2.
  public static func hann(_ count: Int) -> [Float] {
    (0..<count).map { Float(0.5 - 0.5 * UnaryFunction.cos.value(2 * Double.pi * Double($0) / Double(count))) }
  }

  /// The window in the middle of N samples, times `scale`.
  fileprivate func fullWindow(_ graph: Graph, _ scale: Double) throws(TensorError) -> Tensor {
    guard size > 0, hop > 0, (1...size).contains(window.count) else {
      throw .argument(
        op: "stft",
        problem: "a frame of \(size) and a hop of \(hop) must be positive, the window no longer than a frame",
        path: graph.path)
    }
    return try graph.constant(padded.map { Float($0 * scale) }, [size])
  }

  private var padded: [Double] {
    let before = (size - window.count) / 2
    return (0..<size).map { window.indices.contains($0 - before) ? Double(window[$0 - before]) : 0 }
  }

  private var normalization: Double { isNormalized ? Double(size).squareRoot() : 1 }

  fileprivate func analysis(_ graph: Graph) throws(TensorError) -> Tensor {
    try fullWindow(graph, 1 / normalization)
  }

  fileprivate func synthesis(_ graph: Graph) throws(TensorError) -> Tensor {
    try fullWindow(graph, normalization)
  }

  /// The sum of the squared windows of `frames` frames.
  fileprivate func envelope(frames: Int) -> [Double] {
    var sum = [Double](repeating: 0, count: (frames - 1) * hop + size)
    let square = padded.map { $0 * $0 }
    for f in 0..<frames { for t in 0..<size { sum[f * hop + t] += square[t] } }
    return sum
  }
}

extension Tensor {
  /// The discrete Fourier transform of the last axis, N samples to N / 2 + 1 bins.
  public func rfft() throws(TensorError) -> Spectrum {
    try require(rank >= 1 && shape[rank - 1] > 0, "rfft", "the last axis has samples")
    let count = shape[rank - 1]
    let ones = try graph.constant([Float](repeating: 1, count: count), [count])
    let bins = try graph.apply(Fourier(hop: 1), [self, ones])
    let flat: [Int] = shape.dropLast() + [count / 2 + 1]
    return Spectrum(re: try bins[0].reshaped(flat), im: try bins[1].reshaped(flat))
  }

  /// The short-time Fourier transform of the last axis: [..., T] to [..., frames, N / 2 + 1] (torch has bins before
  /// frames).
  public func stft(_ frames: FrameShape) throws(TensorError) -> Spectrum {
    let half = frames.isCentered ? frames.size / 2 : 0
    let wide = try padded(axis: rank - 1, before: half, after: half, mode: .reflect)
    let bins = try graph.apply(Fourier(hop: frames.hop), [wide, frames.analysis(graph)])
    return Spectrum(re: bins[0], im: bins[1])
  }
}

extension Spectrum {
  /// The parts, weighted so that `FourierBack` inverts `Fourier`.
  private func weighted(_ count: Int) throws(TensorError) -> [Tensor] {
    // Bins between the first and (of even N) the last stand for two.
    let weights = (0...count / 2).map { Float($0 == 0 || 2 * $0 == count ? 1 : 2) / Float(count) }
    let factor = try re.graph.constant(weights, [weights.count])
    return [try re * factor, try im * factor]
  }

  /// The signal of `count` samples whose `rfft` this [..., count / 2 + 1] is.
  public func irfft(_ count: Int) throws(TensorError) -> Tensor {
    try re.require(
      re.shape == im.shape && count > 0 && re.shape.last == count / 2 + 1, "irfft",
      "re and im have \(count) / 2 + 1 bins", others: [im.shape])
    let ones = try re.graph.constant([Float](repeating: 1, count: count), [count])
    var parts: [Tensor] = []
    for part in try weighted(count) {
      try parts.append(part.reshaped(re.shape.dropLast() + [1, count / 2 + 1]))
    }
    return try re.graph.apply(FourierBack(hop: 1, length: count), parts + [ones])[0]
  }

  /// The signal whose short-time Fourier transform this [..., frames, N / 2 + 1] is, or is nearest to (Griffin & Lim
  /// 1984): `length` samples, or as many as the frames reach.
  /// - Throws: `TensorError` when windows leave a sample uncovered.
  public func istft(_ frames: FrameShape, length: Int? = nil) throws(TensorError) -> Tensor {
    let graph = re.graph
    try re.require(
      re.shape == im.shape && re.rank >= 2 && re.shape[re.rank - 2] > 0
        && re.shape.last == frames.size / 2 + 1,
      "istft", "re and im are [..., frames, \(frames.size) / 2 + 1]", others: [im.shape])
    let window = try frames.synthesis(graph)
    let envelope = frames.envelope(frames: re.shape[re.rank - 2])
    let start = frames.isCentered ? frames.size / 2 : 0
    let end = length.map { start + $0 } ?? envelope.count - start
    let used = Swift.min(end, envelope.count) - start
    guard used > 0, envelope[start..<start + used].allSatisfy({ $0 > 1e-11 }) else {
      throw .argument(op: "istft", problem: "the windows leave samples uncovered", path: graph.path)
    }
    let op = FourierBack(hop: frames.hop, length: envelope.count)
    let sum = try graph.apply(op, weighted(frames.size) + [window])[0]
    let inverse = envelope[start..<start + used].map { Float(1 / $0) }
    let signal =
      try sum.sliced(axis: sum.rank - 1, from: start, count: used) * graph.constant(inverse, [used])
    return try signal.padded(axis: signal.rank - 1, before: 0, after: end - start - used)
  }

  /// re² + im².
  public func power() throws(TensorError) -> Tensor { try re.square() + im.square() }
}
