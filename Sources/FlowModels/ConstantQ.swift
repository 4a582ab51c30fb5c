public import FlowTensor
import Foundation

/// The constant-Q transform by octaves (Schörkhuber & Klapuri 2010) with the conventions of nnAudio's `CQT2010v2` and
/// zeros around the wave, as BigVGAN uses it (spec 5.9): kernels for the top octave, halvings of the rate for those
/// below, bins scaled by the root of their window's length.
public struct ConstantQ: Sendable {
  /// Bins of an octave.
  public let binsPerOctave: Int
  /// Octaves.
  public let octaves: Int
  /// Samples between frames.
  public let hop: Int
  /// The factor by which the rate is lowered at once, as the highest bin allows, and the filter for it.
  private let decimation: (factor: Int, filter: [Float])
  /// Real rows of the top octave's kernels, then imaginary ones.
  private let kernels: [Float]
  private let taps: Int
  private let scales: [Float]

  /// The transform of waves at `samplingRate` Hz.
  /// - Parameter lowest: Hz of the lowest bin.
  /// - Throws: `TensorError.argument` when the highest bin is above half the rate, or the hop can't be halved per octave.
  public init(
    samplingRate: Double, hop: Int, octaves: Int, binsPerOctave: Int, lowest: Double = 32.70
  ) throws(TensorError) {
    guard octaves > 0, octaves < 24, binsPerOctave > 0, binsPerOctave < 1024, hop > 0, hop < 1 << 24 else {
      throw .argument(op: "constant-q", problem: "octaves, their bins and the hop are positive and sensible")
    }
    let step = pow(2, 1 / Double(binsPerOctave))
    let quality = 1 / (step - 1)
    let bottom = lowest * pow(2, Double(octaves - 1))
    let highest = bottom * pow(2, Double(binsPerOctave - 1) / Double(binsPerOctave))
    guard highest <= samplingRate / 2 else {
      throw .argument(
        op: "constant-q", problem: "the highest bin, \(highest) Hz, is above half of \(samplingRate) Hz")
    }
    // As low a rate as leaves the highest bin's window in the band, and an even hop to the lowest octave.
    let edge = highest * (1 + 0.75 / quality)
    let room = Int(log2(0.85 * (samplingRate / 2).rounded(.down) / edge).rounded(.up)) - 2
    let turns = Int(log2(Double(hop)).rounded(.up)) - octaves + 1
    let factor = 1 << max(0, min(room, turns))
    guard hop % (factor << (octaves - 1)) == 0 else {
      throw .argument(
        op: "constant-q",
        problem: "a hop of \(hop) can't be divided by \(factor << (octaves - 1)) for \(octaves) octaves")
    }
    let rate = samplingRate / Double(factor)
    let lengths = (0..<binsPerOctave).map { bin in
      Int((quality * rate / (bottom * pow(2, Double(bin) / Double(binsPerOctave)))).rounded(.up))
    }
    taps = 1 << Int(log2(Double(lengths[0])).rounded(.up))
    var kernels = [Float](repeating: 0, count: 2 * binsPerOctave * taps)
    for (bin, length) in lengths.enumerated() {
      let frequency = bottom * pow(2, Double(bin) / Double(binsPerOctave))
      // A Hann window (periodic) of the bin's length, of sum 1, in the middle.
      let window = (0..<length).map { 0.5 - 0.5 * cos(2 * .pi * Double($0) / Double(length)) }
      let sum = window.reduce(0, +)
      let start = (taps - length + 1) / 2 - length % 2
      for i in 0..<length {
        let phase = 2 * .pi * Double(i - (length + 1) / 2) * frequency / rate
        kernels[bin * taps + start + i] = Float(window[i] / sum * cos(phase))
        kernels[(binsPerOctave + bin) * taps + start + i] = Float(-window[i] / sum * sin(phase))
      }
    }
    self.kernels = kernels
    self.binsPerOctave = binsPerOctave
    self.octaves = octaves
    self.hop = hop
    decimation = (factor, WaveFilters.lowPass(1 / Double(factor), transition: 0.03))
    scales = (0..<octaves * binsPerOctave).map { bin in
      let frequency = lowest * pow(2, Double(bin) / Double(binsPerOctave))
      return Float(Double(factor) * (quality * rate / frequency).rounded(.up).squareRoot())
    }
  }

  /// A wave [B, 1, T] to [B, 2, frames, bins]: real parts, then imaginary ones. There are T / hop + 1 frames; bins
  /// go up.
  /// - Throws: `TensorError.shape` for another shape, or when octaves end up with different numbers of frames.
  public func callAsFunction(_ wave: Tensor) throws(TensorError) -> Tensor {
    try wave.requireWave("constant-q")
    let graph = wave.graph
    var (x, hop) = (wave, self.hop / decimation.factor)
    if decimation.factor > 1 {
      let filter = try graph.constant(decimation.filter, [1, 1, decimation.filter.count])
      x = try lowered(x, filter, decimation.factor)
    }
    let rows = try graph.constant(kernels, [2 * binsPerOctave, 1, taps])
    let filter = WaveFilters.lowPass(0.5, transition: 0.001)
    let half = try graph.constant(filter, [1, 1, filter.count])
    var parts: [Tensor] = []
    for octave in 0..<octaves {
      if octave > 0 {
        x = try lowered(x, half, 2)
        hop /= 2
      }
      let bins = try x.conv1d(rows, stride: hop, padding: taps / 2)
      try parts.insert(bins.reshaped([x.shape[0], 2, binsPerOctave, bins.shape[2]]), at: 0)
    }
    let all = try Tensor.concatenated(parts, axis: 2) * graph.constant(scales, [scales.count, 1])
    return try all.permuted([0, 1, 3, 2])
  }

  private func lowered(_ x: Tensor, _ filter: Tensor, _ factor: Int) throws(TensorError) -> Tensor {
    try x.conv1d(filter, stride: factor, padding: (filter.shape[2] - 1) / 2)
  }
}

/// Fixed filters of waves.
enum WaveFilters {
  /// 256 taps that pass frequencies below `cutoff` (1: half the rate), by sampling the wanted response and a Hamming
  /// window, as scipy's `firwin2`. `transition` is the share of `cutoff` on both sides over which the response falls.
  static func lowPass(_ cutoff: Double, transition: Double) -> [Float] {
    let (taps, points) = (256, 256)
    let (pass, stop) = (cutoff / (1 + transition), cutoff * (1 + transition))
    let response = (0..<points).map { min(1, max(0, (stop - Double($0) / Double(points)) / (stop - pass))) }
    return (0..<taps).map { n in
      let time = Double(n) - Double(taps - 1) / 2
      let sum = (1..<points).reduce(response[0]) {
        $0 + 2 * response[$1] * cos(.pi * Double($1) * time / Double(points))
      }
      let window = 0.54 - 0.46 * cos(2 * .pi * Double(n) / Double(taps - 1))
      return Float(sum / Double(2 * points) * window)
    }
  }

  /// A wave [B, 1, T] at twice the rate, [B, 1, 2T], by torchaudio's default sinc: 6 zero crossings under a Hann window,
  /// cut off at 0.99 of the band.
  static func doubled(_ wave: Tensor) throws(TensorError) -> Tensor {
    let (band, crossings, reach) = (0.99, 6.0, 7)
    var taps: [Float] = []
    for phase in [0, -0.5] {
      for i in -reach...reach {
        let time = min(crossings, max(-crossings, (Double(i) + phase) * band))
        let window = pow(cos(time * .pi / crossings / 2), 2)
        taps.append(Float(band * window * (time == 0 ? 1 : sin(.pi * time) / (.pi * time))))
      }
    }
    let both = try wave.conv1d(wave.graph.constant(taps, [2, 1, 2 * reach + 1]), padding: reach)
    return try both.permuted([0, 2, 1]).reshaped([wave.shape[0], 1, 2 * wave.shape[2]])
  }
}
