import CKernels
import Foundation

/// A real Fourier transform of one length, with its scratch memory. Not to be shared between threads.
public final class RealFFT {
  /// Points.
  public let count: Int
  private let plan: OpaquePointer
  private var re: [Double]
  private var im: [Double]
  private var work: [Double]

  /// Transforms of `count` points; a precondition failure when `count` is not positive.
  public init(_ count: Int) {
    guard count > 0, let plan = flow_fft_plan_for(count) else {
      preconditionFailure("an FFT of \(count) points")
    }
    self.count = count
    self.plan = plan
    re = [Double](repeating: 0, count: count)
    im = re
    work = [Double](repeating: 0, count: flow_fft_work(plan))
  }

  /// The complex spectrum of up to `count` samples (zeros follow), bins 0...count/2, into `real` and `imaginary`.
  public func forward(_ x: UnsafeBufferPointer<Double>, _ real: inout [Double], _ imaginary: inout [Double]) {
    re.withUnsafeMutableBufferPointer { re in
      for i in 0..<count { re[i] = i < x.count ? x[i] : 0 }
    }
    im.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
    flow_fft(plan, &re, &im, &work)
    for k in 0...count / 2 {
      real[k] = re[k]
      imaginary[k] = im[k]
    }
  }

  /// The signal of a half spectrum, scaled so that it undoes `forward`.
  public func inverse(_ real: [Double], _ imaginary: [Double], _ x: inout [Double]) {
    // The conjugate's forward transform is the conjugate of the inverse; the signal is real.
    for k in 0...count / 2 {
      re[k] = real[k]
      im[k] = -imaginary[k]
      if k > 0, k < count - k {
        re[count - k] = real[k]
        im[count - k] = imaginary[k]
      }
    }
    flow_fft(plan, &re, &im, &work)
    let scale = 1 / Double(count)
    for i in 0..<count { x[i] = re[i] * scale }
  }
}

/// Short-time spectra: `frames` × `bins`, row-major.
public struct Spectrogram: Sendable {
  /// Frames.
  public let frames: Int
  /// Bins, fft/2 + 1.
  public let bins: Int
  /// Real parts.
  public var real: [Double]
  /// Imaginary parts.
  public var imaginary: [Double]

  /// The magnitudes.
  public var magnitude: [Double] {
    var result = [Double](repeating: 0, count: real.count)
    for i in result.indices { result[i] = (real[i] * real[i] + imaginary[i] * imaginary[i]).squareRoot() }
    return result
  }
}

/// Short-time Fourier analysis and synthesis with a periodic Hann window, frames centred, zeros beyond the ends (librosa's
/// conventions).
public struct STFT: Sendable {
  /// Points of a transform.
  public let size: Int
  /// Samples between frames.
  public let hop: Int
  let window: [Double]

  /// Transforms of `size` points every `hop` samples.
  public init(size: Int, hop: Int) {
    self.size = size
    self.hop = hop
    window = (0..<size).map { 0.5 - 0.5 * cos(2 * .pi * Double($0) / Double(size)) }
  }

  /// The spectra of `samples`: 1 + count / hop frames.
  public func forward(_ samples: [Float]) -> Spectrogram {
    let frames = 1 + samples.count / hop
    let bins = size / 2 + 1
    var result = Spectrogram(
      frames: frames, bins: bins, real: [Double](repeating: 0, count: frames * bins),
      imaginary: [Double](repeating: 0, count: frames * bins))
    let fft = RealFFT(size)
    var (re, im) = ([Double](repeating: 0, count: bins), [Double](repeating: 0, count: bins))
    var frame = [Double](repeating: 0, count: size)
    for f in 0..<frames {
      let start = f * hop - size / 2
      for i in 0..<size {
        let j = start + i
        frame[i] = j >= 0 && j < samples.count ? Double(samples[j]) * window[i] : 0
      }
      frame.withUnsafeBufferPointer { fft.forward($0, &re, &im) }
      for k in 0..<bins {
        result.real[f * bins + k] = re[k]
        result.imaginary[f * bins + k] = im[k]
      }
    }
    return result
  }

  /// The signal of `count` samples whose spectra are nearest to `spectrogram` (windowed overlap-add, Griffin & Lim 1984).
  public func inverse(_ spectrogram: Spectrogram, count: Int) -> [Float] {
    let bins = spectrogram.bins
    var sum = [Double](repeating: 0, count: count)
    var weight = [Double](repeating: 0, count: count)
    let fft = RealFFT(size)
    var frame = [Double](repeating: 0, count: size)
    for f in 0..<spectrogram.frames {
      fft.inverse(
        Array(spectrogram.real[f * bins..<(f + 1) * bins]),
        Array(spectrogram.imaginary[f * bins..<(f + 1) * bins]),
        &frame)
      let start = f * hop - size / 2
      for i in max(0, -start)..<max(max(0, -start), min(size, count - start)) {
        sum[start + i] += frame[i] * window[i]
        weight[start + i] += window[i] * window[i]
      }
    }
    return (0..<count).map { Float(weight[$0] > 1e-8 ? sum[$0] / weight[$0] : 0) }
  }
}

/// Mel filterbanks and log-mel spectra.
public enum Mel {
  /// The scale that frequencies are warped by.
  public enum Scale: Sendable { case slaney, htk }

  static func fromHertz(_ hertz: Double, _ scale: Scale) -> Double {
    switch scale {
    case .htk: 2595 * log10(1 + hertz / 700)
    case .slaney: hertz < 1000 ? hertz * 3 / 200 : 15 + log(hertz / 1000) / (log(6.4) / 27)
    }
  }

  static func toHertz(_ mel: Double, _ scale: Scale) -> Double {
    switch scale {
    case .htk: 700 * (pow(10, mel / 2595) - 1)
    case .slaney: mel < 15 ? mel * 200 / 3 : 1000 * exp((mel - 15) * log(6.4) / 27)
    }
  }

  /// Triangular filters, `bands` rows of fft/2 + 1 weights; `normalized` gives each unit area (Slaney).
  public static func filters(
    sampleRate: Int, fft: Int, bands: Int, low: Double = 0, high: Double? = nil, scale: Scale = .slaney,
    normalized: Bool = true
  ) -> [[Double]] {
    let (bottom, top) = (fromHertz(low, scale), fromHertz(high ?? Double(sampleRate) / 2, scale))
    let edges = (0..<bands + 2).map {
      toHertz(bottom + (top - bottom) * Double($0) / Double(bands + 1), scale)
    }
    return (0..<bands).map { band in
      let (a, b, c) = (edges[band], edges[band + 1], edges[band + 2])
      return (0...fft / 2).map { bin in
        let f = Double(bin * sampleRate) / Double(fft)
        return max(0, min((f - a) / (b - a), (c - f) / (c - b))) * (normalized ? 2 / (c - a) : 1)
      }
    }
  }

  /// Filtered magnitudes to the `power`: frames × bands, row-major.
  public static func spectrum(_ spectrogram: Spectrogram, filters: [[Double]], power: Double) -> [[Double]] {
    let magnitude = spectrogram.magnitude
    let ranges = filters.map { row in
      (row.firstIndex { $0 > 0 } ?? 0)..<((row.lastIndex { $0 > 0 } ?? -1) + 1)
    }
    return (0..<spectrogram.frames).map { f in
      let base = f * spectrogram.bins
      return filters.indices.map { band in
        var sum = 0.0
        for k in ranges[band] {
          let m = magnitude[base + k]
          sum += filters[band][k] * (power == 2 ? m * m : m)
        }
        return sum
      }
    }
  }
}
