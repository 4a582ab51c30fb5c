import Foundation

/// Loudness by ITU-R BS.1770-4 and EBU Tech 3341/3342.
public struct Loudness: Sendable, Hashable {
  /// Gated programme loudness, LUFS; minus infinity for silence or less than 0.4 s.
  public var integrated: Double
  /// Loudness range, LU.
  public var range: Double
  /// The loudest 0.4 s, LUFS.
  public var maxMomentary: Double
  /// The loudest 3 s, LUFS.
  public var maxShortTerm: Double
  /// The largest magnitude of the signal oversampled four times, dBTP.
  public var truePeak: Double

  /// Measures `audio`; up to five channels, the fourth and fifth weighted as surrounds.
  public init(_ audio: AudioBuffer) {
    let rate = Double(audio.sampleRate)
    let step = Int((rate * 0.1).rounded())
    let pieces = audio.count / max(1, step)
    var energy = [Double](repeating: 0, count: pieces)
    for (index, channel) in audio.channels.enumerated() {
      let weight = index == 3 || index == 4 ? 1.41 : 1
      let filtered = Loudness.weighted(channel, rate: rate)
      for p in 0..<pieces {
        var sum = 0.0
        for i in p * step..<(p + 1) * step { sum += filtered[i] * filtered[i] }
        energy[p] += weight * sum / Double(step)
      }
    }
    func windows(_ length: Int, every hop: Int) -> [Double] {
      guard pieces >= length else { return [] }
      return stride(from: 0, through: pieces - length, by: hop).map {
        energy[$0..<$0 + length].reduce(0, +) / Double(length)
      }
    }
    let momentary = windows(4, every: 1)
    let shortTerm = windows(30, every: 1)
    maxMomentary = Loudness.level(momentary.max() ?? 0)
    maxShortTerm = Loudness.level(shortTerm.max() ?? 0)
    integrated = Loudness.level(Loudness.gated(momentary, relative: -10).mean)
    let kept = Loudness.gated(windows(30, every: 10), relative: -20).values.map(Loudness.level).sorted()
    if kept.count > 1 {
      let position = { (p: Double) in kept[Int((Double(kept.count - 1) * p).rounded())] }
      range = position(0.95) - position(0.1)
    } else {
      range = 0
    }
    truePeak = 20 * log10(max(Double(audio.peak), Loudness.oversampledPeak(audio)))
  }

  static func level(_ energy: Double) -> Double { energy > 0 ? -0.691 + 10 * log10(energy) : -.infinity }

  private static func gated(_ blocks: [Double], relative: Double) -> (mean: Double, values: [Double]) {
    let loud = blocks.filter { level($0) >= -70 }
    guard !loud.isEmpty else { return (0, []) }
    let gate = level(loud.reduce(0, +) / Double(loud.count)) + relative
    let kept = loud.filter { level($0) >= gate }
    return kept.isEmpty ? (0, []) : (kept.reduce(0, +) / Double(kept.count), kept)
  }

  /// The K-weighting: a high shelf and a high-pass, as the standard's coefficients at 48 kHz imply for other rates.
  static func weighted(_ samples: [Float], rate: Double) -> [Double] {
    let shelf = tan(.pi * 1681.974450955533 / rate)
    let (q, gain) = (0.7071752369554196, pow(10, 3.999843853973347 / 20))
    let half = pow(gain, 0.4996667741545416)
    let a0 = 1 + shelf / q + shelf * shelf
    let first = Biquad(
      b0: (gain + half * shelf / q + shelf * shelf) / a0, b1: 2 * (shelf * shelf - gain) / a0,
      b2: (gain - half * shelf / q + shelf * shelf) / a0, a1: 2 * (shelf * shelf - 1) / a0,
      a2: (1 - shelf / q + shelf * shelf) / a0)
    let high = tan(.pi * 38.13547087602444 / rate)
    let width = 0.5003270373238773
    let c0 = 1 + high / width + high * high
    let second = Biquad(
      b0: 1, b1: -2, b2: 1, a1: 2 * (high * high - 1) / c0, a2: (1 - high / width + high * high) / c0)
    return second.filter(first.filter(samples.map(Double.init)))
  }

  /// The peak of a four-fold oversampling by a 48-tap windowed sinc.
  private static func oversampledPeak(_ audio: AudioBuffer) -> Double {
    let reach = 12
    let taps = (1..<4).map { phase -> [Double] in
      (-reach + 1...reach).map { i in
        let x = Double(i) - Double(phase) / 4
        let window = 0.5 + 0.5 * cos(.pi * x / Double(reach))
        return sin(.pi * x) / (.pi * x) * window
      }
    }
    var peak = 0.0
    for samples in audio.channels {
      let silence = [Float](repeating: 0, count: 2 * reach)
      let channel = silence + samples + silence
      // Between samples the peak is near one of the larger ones.
      let bound = samples.reduce(0) { max($0, abs($1)) } * 0.25
      for i in reach..<channel.count - reach where max(abs(channel[i]), abs(channel[i + 1])) >= bound {
        for phase in taps {
          var sum = 0.0
          for k in 0..<2 * reach { sum += phase[k] * Double(channel[i - reach + 1 + k]) }
          peak = max(peak, abs(sum))
        }
      }
    }
    return peak
  }
}

/// A second-order recursive filter, direct form I.
struct Biquad {
  var b0: Double, b1: Double, b2: Double, a1: Double, a2: Double

  func filter(_ x: [Double]) -> [Double] {
    var y = x
    var (x1, x2, y1, y2) = (0.0, 0.0, 0.0, 0.0)
    for i in x.indices {
      let value = b0 * x[i] + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
      (x2, x1, y2, y1) = (x1, x[i], y1, value)
      y[i] = value
    }
    return y
  }
}

extension AudioBuffer {
  /// With silence cut at both ends: samples from the first to the last frame (of 2048, every 512) within `decibels` of the
  /// loudest, as librosa's trim.
  public func trimmed(decibels: Double, frame: Int = 2048, hop: Int = 512) -> Range<Int> {
    let samples = mono
    let frames = 1 + samples.count / hop
    var sums = [0.0]
    sums.reserveCapacity(samples.count + 1)
    for sample in samples { sums.append((sums.last ?? 0) + Double(sample) * Double(sample)) }
    let power = (0..<frames).map { f -> Double in
      let low = min(max(0, f * hop - frame / 2), samples.count)
      let high = min(samples.count, max(low, f * hop + frame / 2))
      return max(0, sums[high] - sums[low]) / Double(frame)
    }
    let top = max(power.max() ?? 0, 1e-10)
    let loud = power.indices.filter { 10 * log10(max(power[$0], 1e-10) / top) > -decibels }
    guard let first = loud.first, let last = loud.last else { return 0..<0 }
    return min(first * hop, samples.count)..<min(samples.count, (last + 1) * hop)
  }

  /// The samples of `range`.
  public func sliced(_ range: Range<Int>) -> AudioBuffer {
    AudioBuffer(channels: channels.map { Array($0[range]) }, sampleRate: sampleRate)
  }

  /// Scaled by `factor`.
  public func scaled(_ factor: Float) -> AudioBuffer {
    AudioBuffer(channels: channels.map { $0.map { $0 * factor } }, sampleRate: sampleRate)
  }
}
