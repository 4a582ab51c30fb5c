import Foundation

/// Splits a song into voice and accompaniment without weights. The background is what repeats: each frame is compared with
/// the frames most like it (REPET-SIM, Rafii & Pardo 2012). What stands out is searched for a pitch (pYIN), and the voice
/// is kept near that pitch's harmonics. The two parts add up to the mixture.
public struct VocalSeparator: Sendable {
  /// Frames compared with each frame.
  public var similarFrames = 50
  /// Least cosine similarity of a frame that counts as a repetition.
  public var similarity = 0.0
  /// Seconds that must lie between a frame and its repetitions.
  public var distance = 0.4
  /// Below this the voice has nothing, Hz.
  public var lowest = 90.0
  /// Width of a harmonic's pass band, Hz either side at full weight.
  public var harmonicWidth = 15.0
  /// What is left between harmonics and in unvoiced frames.
  public var leak = 0.2
  /// Lowest and highest pitch of the voice, Hz.
  public var pitchRange = 90.0...900.0

  /// The usual settings.
  public init() {}

  /// The voice and the accompaniment of `mixture`'s mean channel, of its length; they sum to it.
  public func separate(_ mixture: AudioBuffer) -> (vocals: [Float], accompaniment: [Float]) {
    let samples = mixture.mono
    let rate = Double(mixture.sampleRate)
    let size = mixture.sampleRate > 32_000 ? 2048 : 1024
    let stft = STFT(size: size, hop: size / 4)
    let spectrum = stft.forward(samples)
    let magnitude = spectrum.magnitude
    let background = repeating(magnitude, spectrum, secondsPerFrame: Double(size / 4) / rate)
    var mask = zip(magnitude, background).map(VocalSeparator.share)
    let cutoff = Int((lowest * Double(size) / rate).rounded(.up))
    for f in 0..<spectrum.frames {
      for k in 0..<min(cutoff, spectrum.bins) { mask[f * spectrum.bins + k] = 0 }
    }
    let first = stft.inverse(spectrum.masked(mask), count: samples.count)
    comb(&mask, magnitude, background, first, spectrum, size: size, sampleRate: mixture.sampleRate)
    let vocals = stft.inverse(spectrum.masked(mask), count: samples.count)
    return (vocals, zip(samples, vocals).map { $0 - $1 })
  }

  /// The median of the frames most like each frame, no louder than the frame itself.
  private func repeating(_ magnitude: [Double], _ spectrum: Spectrogram, secondsPerFrame: Double) -> [Double]
  {
    let (frames, bins) = (spectrum.frames, spectrum.bins)
    // Frames are compared on a coarse, compressed spectrum.
    let bands = 96
    let edges = (0...bands).map { Int(pow(Double(bins - 1), Double($0) / Double(bands))) }
    var features = [Float](repeating: 0, count: frames * bands)
    for f in 0..<frames {
      var norm: Float = 0
      for b in 0..<bands {
        var sum = 0.0
        let (low, high) = (edges[b], max(edges[b] + 1, edges[b + 1]))
        for k in low..<min(high, bins) { sum += magnitude[f * bins + k] }
        let value = Float(log1p(100 * sum / Double(high - low)))
        features[f * bands + b] = value
        norm += value * value
      }
      let scale = 1 / max(norm.squareRoot(), 1e-9)
      for b in 0..<bands { features[f * bands + b] *= scale }
    }
    let gap = max(1, Int(distance / secondsPerFrame))
    var result = [Double](repeating: 0, count: magnitude.count)
    var scores = [(score: Float, frame: Int)]()
    for f in 0..<frames {
      scores.removeAll(keepingCapacity: true)
      features.withUnsafeBufferPointer { v in
        for g in 0..<frames where abs(g - f) >= gap {
          var dot: Float = 0
          for b in 0..<bands { dot += v[f * bands + b] * v[g * bands + b] }
          if Double(dot) >= similarity { scores.append((dot, g)) }
        }
      }
      scores.sort { ($0.score, -$0.frame) > ($1.score, -$1.frame) }
      // Neighbours tell the same: of each run of near frames the best one counts.
      var chosen: [Int] = []
      for candidate in scores {
        if chosen.allSatisfy({ abs($0 - candidate.frame) >= 3 }) { chosen.append(candidate.frame) }
        if chosen.count == similarFrames { break }
      }
      guard !chosen.isEmpty else { continue }
      // The lower middle of an even number of values; a bin at a time, the frames' values side by side.
      var values = [Double](repeating: 0, count: chosen.count)
      values.withUnsafeMutableBufferPointer { values in
        magnitude.withUnsafeBufferPointer { magnitude in
          for k in 0..<bins {
            for (i, g) in chosen.enumerated() { values[i] = magnitude[g * bins + k] }
            result[f * bins + k] = min(VocalSeparator.middle(values), magnitude[f * bins + k])
          }
        }
      }
    }
    return result
  }

  /// The element of rank (count - 1) / 2, by Hoare's selection; the values are reordered.
  private static func middle(_ values: UnsafeMutableBufferPointer<Double>) -> Double {
    var (low, high) = (0, values.count - 1)
    let rank = (values.count - 1) / 2
    while low < high {
      let pivot = values[rank]
      var (i, j) = (low, high)
      while i <= j {
        while values[i] < pivot { i += 1 }
        while values[j] > pivot { j -= 1 }
        if i <= j {
          values.swapAt(i, j)
          i += 1
          j -= 1
        }
      }
      if j < rank { low = i }
      if i > rank { high = j }
    }
    return values[rank]
  }

  /// The share of what stands out in a bin of `magnitude` with so much background.
  private static func share(_ magnitude: Double, _ background: Double) -> Double {
    let foreground = max(0, magnitude - background)
    return foreground * foreground / (foreground * foreground + background * background + 1e-12)
  }

  /// Keeps the voice's harmonics and lowers what lies between them. A tune that comes again is a repetition too: at a
  /// harmonic the background is no louder than what lies half way to the next ones.
  private func comb(
    _ mask: inout [Double], _ magnitude: [Double], _ background: [Double], _ voice: [Float],
    _ spectrum: Spectrogram, size: Int, sampleRate: Int
  ) {
    var tracker = PYIN(fmin: pitchRange.lowerBound, fmax: pitchRange.upperBound)
    tracker.frame = size * 2
    tracker.hop = size / 4
    guard let track = try? tracker.track(voice, sampleRate: sampleRate) else { return }
    let hertz = Double(sampleRate) / Double(size)
    for f in 0..<min(spectrum.frames, track.f0.count) {
      let base = f * spectrum.bins
      guard track.voiced[f] else {
        // Consonants: the high band stays, the rest is mostly accompaniment.
        for k in 0..<spectrum.bins { mask[base + k] *= Double(k) * hertz > 3000 ? 0.5 : leak }
        continue
      }
      let f0 = track.refined[f]
      func at(_ frequency: Double) -> Double {
        let bin = (frequency / hertz).rounded()
        return magnitude[base + (bin < Double(spectrum.bins) ? Int(bin) : spectrum.bins - 1)]
      }
      for k in 0..<spectrum.bins {
        let frequency = Double(k) * hertz
        let harmonic = max(1, (frequency / f0).rounded())
        let away = abs(frequency - harmonic * f0)
        let width = harmonicWidth + 0.006 * frequency
        let weight = away <= width ? 1 : max(leak, 1 - (away - width) / width)
        var own = mask[base + k]
        if away <= width {
          let between = max(at(harmonic * f0 - f0 / 2), at(harmonic * f0 + f0 / 2))
          own = max(own, VocalSeparator.share(magnitude[base + k], min(background[base + k], between)))
          // The voice has more of the mixture there than what stands out alone.
          if frequency < 5000 { own = own.squareRoot() }
        }
        mask[base + k] = own * weight
      }
    }
  }
}

extension Spectrogram {
  /// Each bin times its mask.
  func masked(_ mask: [Double]) -> Spectrogram {
    var result = self
    for i in mask.indices {
      result.real[i] *= mask[i]
      result.imaginary[i] *= mask[i]
    }
    return result
  }
}
