public import FlowTensor
import Foundation

/// The multi-scale mel loss of BigVGAN v2 (spec 5.9): L1 of log10 mel magnitudes, summed over scales.
public struct MelLoss {
  /// Hz.
  public let samplingRate: Int
  /// Window lengths; hops are a quarter.
  public let windows: [Int]
  /// Mel bands of each scale.
  public let bands: [Int]
  /// The smallest magnitude whose logarithm counts.
  public let floor: Float
  /// Weight of the mean difference of the magnitudes themselves, over their mean in the first wave: partials that stand out,
  /// such as a voice's, count by their size there, where logarithms count each band of noise alike. BigVGAN's is 0.
  public let magnitudeWeight: Float

  /// The scales of BigVGAN v2 unless said.
  public init(
    samplingRate: Int, windows: [Int] = [32, 64, 128, 256, 512, 1024, 2048],
    bands: [Int] = [5, 10, 20, 40, 80, 160, 320], floor: Float = 1e-5,
    magnitudeWeight: Float = 0
  ) {
    self.magnitudeWeight = magnitudeWeight
    self.samplingRate = samplingRate
    self.windows = windows
    self.bands = bands
    self.floor = floor
  }

  /// Mel magnitudes of a wave [B, 1, T] at the scale `index`: [B, frames, bands].
  public func mel(_ wave: Tensor, scale index: Int) throws(TensorError) -> Tensor {
    guard wave.rank == 3, wave.shape[1] == 1, windows.indices.contains(index), bands.indices.contains(index)
    else {
      throw .shape(
        op: "mel", shapes: [wave.shape], expected: "a wave is [B, 1, T], and there is a scale \(index)",
        path: wave.graph.path)
    }
    let frames = FrameShape(size: windows[index], hop: windows[index] / 4)
    let flat = try wave.reshaped([wave.shape[0], wave.shape[2]])
      .padded(axis: 1, before: frames.size / 2, after: frames.size / 2, mode: .reflect)
    return try MelLoss.magnitudes(flat, frames, samplingRate: samplingRate, bands: bands[index])
  }

  /// Mel magnitudes of the frames of waves [B, T], none of which is padded: [B, frames, bands].
  static func magnitudes(
    _ waves: Tensor, _ shape: FrameShape, samplingRate: Int, bands: Int
  ) throws(TensorError) -> Tensor {
    let (graph, bins) = (waves.graph, shape.size / 2 + 1)
    let spectrum = try shape.size < 256 ? product(waves, shape) : transform(waves, shape)
    // The smallest normal number keeps the root's derivative finite at silence; it changes no magnitude that counts.
    let magnitude = try (spectrum.re.square() + spectrum.im.square() + 1e-30).sqrt()
    let filters = MelFilters.slaney(samplingRate: samplingRate, fft: shape.size, bands: bands)
    return try magnitude.matmul(graph.constant(filters.flatMap { $0 }, [bands, bins]), transpose: true)
  }

  private static func transform(_ waves: Tensor, _ shape: FrameShape) throws(TensorError) -> Spectrum {
    try waves.stft(
      FrameShape(size: shape.size, hop: shape.hop, window: shape.window, isCentered: false))
  }

  /// The same by a product with the transform's matrix, which is faster for short frames.
  private static func product(_ waves: Tensor, _ shape: FrameShape) throws(TensorError) -> Spectrum {
    let bins = shape.size / 2 + 1
    var basis = [Float](repeating: 0, count: shape.size * 2 * bins)
    for n in 0..<shape.size {
      for k in 0..<bins {
        let phase = 2 * .pi * Double(n * k % shape.size) / Double(shape.size)
        basis[n * 2 * bins + k] = shape.window[n] * Float(cos(phase))
        basis[n * 2 * bins + bins + k] = -shape.window[n] * Float(sin(phase))
      }
    }
    let spectrum = try waves.framed(window: shape.size, hop: shape.hop)
      .matmul(waves.graph.constant(basis, [shape.size, 2 * bins]))
    return Spectrum(
      re: try spectrum.sliced(axis: 2, from: 0, count: bins),
      im: try spectrum.sliced(axis: 2, from: bins, count: bins))
  }

  /// The loss between two waves [B, 1, T]; the first may be constant.
  public func callAsFunction(_ x: Tensor, _ y: Tensor) throws(TensorError) -> Tensor {
    var sum: Tensor?
    let low = try x.graph.constant(floor)
    for index in windows.indices {
      let (a, b) = (try mel(x, scale: index), try mel(y, scale: index))
      var part =
        try (a.maximum(low).log() - b.maximum(low).log()).abs().mean().reshaped([])
        * Float(1 / log(10.0))
      if magnitudeWeight > 0 {
        let size = try a.mean().reshaped([]).maximum(low)
        part = try part + (a - b).abs().mean().reshaped([]) / size * magnitudeWeight
      }
      sum = if let sum { try sum + part } else { part }
    }
    return if let sum { sum } else { try x.graph.constant(0) }
  }
}

/// Triangular mel filters on Slaney's scale with Slaney's area normalisation, as librosa's default.
public enum MelFilters {
  /// `bands` filters over `fft/2 + 1` bins, from 0 to half the rate.
  public static func slaney(samplingRate: Int, fft: Int, bands: Int) -> [[Float]] {
    func mel(_ hertz: Double) -> Double {
      hertz < 1000 ? hertz * 3 / 200 : 15 + log(hertz / 1000) / (log(6.4) / 27)
    }
    func hertz(_ mel: Double) -> Double { mel < 15 ? mel * 200 / 3 : 1000 * exp((mel - 15) * log(6.4) / 27) }
    let top = mel(Double(samplingRate) / 2)
    let edges = (0..<bands + 2).map { hertz(top * Double($0) / Double(bands + 1)) }
    return (0..<bands).map { band in
      let (low, centre, high) = (edges[band], edges[band + 1], edges[band + 2])
      return (0...fft / 2).map { bin in
        let frequency = Double(bin * samplingRate) / Double(fft)
        let weight = min((frequency - low) / (centre - low), (high - frequency) / (high - centre))
        return Float(max(0, weight) * 2 / (high - low))
      }
    }
  }
}
