import Foundation

/// How far one signal or pitch track is from the truth.
public enum Metrics {
  /// Signal-to-distortion ratio of an estimate, dB: 10 log₁₀ ‖s‖² / ‖s - ŝ‖², over the common length.
  public static func sdr(_ estimate: [Float], truth: [Float]) -> Double {
    var (signal, error) = (0.0, 0.0)
    for (e, t) in zip(estimate, truth) {
      signal += Double(t) * Double(t)
      error += (Double(t) - Double(e)) * (Double(t) - Double(e))
    }
    return 10 * log10(max(signal, 1e-20) / max(error, 1e-20))
  }

  /// The gain in SDR over taking the mixture as the estimate (normalised SDR), dB.
  public static func nsdr(_ estimate: [Float], truth: [Float], mixture: [Float]) -> Double {
    sdr(estimate, truth: truth) - sdr(mixture, truth: truth)
  }

  /// Scale-invariant SDR, dB (Le Roux et al. 2019).
  public static func siSDR(_ estimate: [Float], truth: [Float]) -> Double {
    var (product, signal) = (0.0, 0.0)
    for (e, t) in zip(estimate, truth) {
      product += Double(e) * Double(t)
      signal += Double(t) * Double(t)
    }
    let scale = product / max(signal, 1e-20)
    var error = 0.0
    for (e, t) in zip(estimate, truth) {
      let d = Double(e) - scale * Double(t)
      error += d * d
    }
    return 10 * log10(max(scale * scale * signal, 1e-20) / max(error, 1e-20))
  }

  /// Errors of a pitch track against the truth on the same frames.
  public struct Pitch: Sendable, Hashable {
    /// Root mean square error over frames that both call voiced, Hz.
    public var rmseHertz: Double
    /// The same in cents.
    public var rmseCents: Double
    /// Share of those frames that are off by more than 20 %.
    public var grossError: Double
    /// Share of all frames whose voicing is wrong.
    public var voicingError: Double
    /// Share of all frames that are wrong in voicing or off by more than 20 %.
    public var frameError: Double
    /// Share of truly voiced frames within 50 cents.
    public var rawAccuracy: Double
    /// The same where octaves don't count (raw chroma accuracy; Salamon et al. 2014).
    public var chromaAccuracy: Double
  }

  /// Compares tracks of equal length; 0 Hz means unvoiced.
  public static func pitch(estimate: [Double], truth: [Double]) -> Pitch {
    var (hertz, cents, gross, voicing, both, close, chroma, voiced) = (0.0, 0.0, 0, 0, 0, 0, 0, 0)
    for (e, t) in zip(estimate, truth) {
      if (e > 0) != (t > 0) { voicing += 1 }
      if t > 0 { voiced += 1 }
      guard e > 0, t > 0 else { continue }
      both += 1
      let c = 1200 * log2(e / t)
      hertz += (e - t) * (e - t)
      cents += c * c
      if abs(e - t) > 0.2 * t { gross += 1 }
      if abs(c) < 50 { close += 1 }
      if abs(c - 1200 * (c / 1200).rounded()) < 50 { chroma += 1 }
    }
    let (n, total) = (Double(max(1, both)), Double(max(1, min(estimate.count, truth.count))))
    return Pitch(
      rmseHertz: (hertz / n).squareRoot(), rmseCents: (cents / n).squareRoot(), grossError: Double(gross) / n,
      voicingError: Double(voicing) / total, frameError: Double(voicing + gross) / total,
      rawAccuracy: Double(close) / Double(max(1, voiced)),
      chromaAccuracy: Double(chroma) / Double(max(1, voiced)))
  }

  /// Mean absolute difference, dB, of the log-mel spectra of two mono waves of one rate over their common length: 80 bands,
  /// frames of 1024 samples every 256, nothing below -80 dB of the truth's loudest band, both at the truth's power, as a
  /// sampler's level is its own.
  public static func melDistance(_ estimate: [Float], truth: [Float], sampleRate: Int) -> Double {
    let count = min(estimate.count, truth.count)
    let transform = STFT(size: 1024, hop: 256)
    let filters = Mel.filters(sampleRate: sampleRate, fft: 1024, bands: 80)
    func level(_ wave: ArraySlice<Float>) -> Double {
      wave.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let gain = level(truth.prefix(count)) / max(1e-12, level(estimate.prefix(count)))
    func mel(_ wave: ArraySlice<Float>) -> [[Double]] {
      Mel.spectrum(transform.forward(Array(wave)), filters: filters, power: 1)
    }
    let (a, b) = (mel(estimate.prefix(count)), mel(truth.prefix(count)))
    let floor = max(1e-12, 1e-4 * b.joined().reduce(0, max))
    var sum = 0.0
    for (x, y) in zip(a.joined(), b.joined()) {
      sum += 20 * abs(log10(max(floor, x * gain)) - log10(max(floor, y)))
    }
    return sum / Double(max(1, a.count * filters.count))
  }
}
