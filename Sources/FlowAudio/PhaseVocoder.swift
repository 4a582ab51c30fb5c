import Foundation

/// Time stretching and pitch shifting by a phase vocoder with identity phase locking (Laroche & Dolson 1999): the phase of
/// each spectral peak is carried on by its measured frequency, and its neighbours keep their phase relative to it. Onsets
/// take the phases of the original anew.
public struct PhaseVocoder: Sendable {
  /// Points of a transform.
  public var size = 4096
  /// Synthesis hop; an eighth keeps the amplitude ripple low.
  public var hop = 512
  /// Rise of energy above 2 kHz, as a factor, that counts as an onset; phases start anew there.
  public var onsetFactor = 6.0

  /// The usual settings.
  public init() {}

  /// `samples` at `rate` times the tempo: round(count / rate) samples.
  public func stretched(_ samples: [Float], rate: Double) -> [Float] {
    let length = Int((Double(samples.count) / rate).rounded())
    guard samples.count > 0, length > 0 else { return [] }
    let bins = size / 2 + 1
    let window = (0..<size).map { 0.5 - 0.5 * cos(2 * .pi * Double($0) / Double(size)) }
    let fft = RealFFT(size)
    let frames = length / hop + 2
    var output = [Double](repeating: 0, count: frames * hop + size)
    var weight = output
    var (re, im) = ([Double](repeating: 0, count: bins), [Double](repeating: 0, count: bins))
    var (backRe, backIm) = (re, im)
    var phase = [Double](repeating: 0, count: bins)
    var frame = [Double](repeating: 0, count: size)
    var lastEnergy = Double.infinity

    func analyse(at position: Double, _ re: inout [Double], _ im: inout [Double]) {
      let start = Int(position.rounded()) - size / 2
      for i in 0..<size {
        let j = start + i
        frame[i] = j >= 0 && j < samples.count ? Double(samples[j]) * window[i] : 0
      }
      frame.withUnsafeBufferPointer { fft.forward($0, &re, &im) }
    }

    for index in 0..<frames {
      let position = Double(index * hop) * rate
      analyse(at: position, &re, &im)
      let magnitude = (0..<bins).map { (re[$0] * re[$0] + im[$0] * im[$0]).squareRoot() }
      let first = 2000 * bins / 24_000
      let energy = magnitude[first...].reduce(0) { $0 + $1 * $1 }
      let onset = energy > onsetFactor * lastEnergy + 1e-9
      lastEnergy = energy
      if index == 0 || onset {
        for k in 0..<bins { phase[k] = atan2(im[k], re[k]) }
      } else {
        // Frequencies come from the analysis one synthesis hop earlier in the input.
        analyse(at: position.rounded() - Double(hop), &backRe, &backIm)
        phase = locked(phase, magnitude, re, im, backRe, backIm)
      }
      for k in 0..<bins {
        re[k] = magnitude[k] * cos(phase[k])
        im[k] = magnitude[k] * sin(phase[k])
      }
      fft.inverse(re, im, &frame)
      for i in 0..<size {
        output[index * hop + i] += frame[i] * window[i]
        weight[index * hop + i] += window[i] * window[i]
      }
    }
    return (0..<length).map { i in
      let j = i + size / 2
      return Float(weight[j] > 1e-6 ? output[j] / weight[j] : 0)
    }
  }

  /// The phases of the next synthesis frame.
  private func locked(
    _ phase: [Double], _ magnitude: [Double], _ re: [Double], _ im: [Double], _ backRe: [Double],
    _ backIm: [Double]
  ) -> [Double] {
    let bins = magnitude.count
    var peaks: [Int] = []
    for k in 0..<bins {
      let low = max(0, k - 2)
      let high = min(bins - 1, k + 2)
      if magnitude[k] > 0,
        (low...high).allSatisfy({
          $0 == k || magnitude[$0] < magnitude[k] || ($0 > k && magnitude[$0] == magnitude[k])
        })
      {
        peaks.append(k)
      }
    }
    var result = [Double](repeating: 0, count: bins)
    if peaks.isEmpty { return phase }
    for (i, peak) in peaks.enumerated() {
      let expected = 2 * .pi * Double(peak) * Double(hop) / Double(size)
      let now = atan2(im[peak], re[peak])
      var deviation = now - atan2(backIm[peak], backRe[peak]) - expected
      deviation -= 2 * .pi * (deviation / (2 * .pi)).rounded()
      // The peak may have moved: it goes on from the phase of the bin it was at.
      let carried = phase[peak] + expected + deviation
      let rotation = carried - now
      let low = i == 0 ? 0 : valley(magnitude, peaks[i - 1], peak)
      let high = i == peaks.count - 1 ? bins : valley(magnitude, peak, peaks[i + 1])
      for k in low..<high { result[k] = atan2(im[k], re[k]) + rotation }
    }
    return result
  }

  /// The lowest bin between two peaks; it belongs to the second.
  private func valley(_ magnitude: [Double], _ a: Int, _ b: Int) -> Int {
    (a + 1...b).min { magnitude[$0] < magnitude[$1] } ?? b
  }

  /// `samples` with every frequency times 2^(semitones/12), of the same length.
  /// - Throws: `AudioFileError` when the resampler refuses the ratio.
  public func shifted(_ samples: [Float], semitones: Double) throws(AudioFileError) -> [Float] {
    if semitones == 0 { return samples }
    let factor = exp2(semitones / 12)
    let longer = stretched(samples, rate: 1 / factor)
    return try Resampler.convert(
      longer, ratio: Double(samples.count) / Double(max(1, longer.count)), count: samples.count)
  }
}

/// Mixing.
public enum Mixing {
  /// `signal` with `noise` (repeated or cut to its length) added so that the ratio of their energies is `decibels`.
  public static func atSNR(_ signal: [Float], noise: [Float], decibels: Double) -> [Float] {
    guard !noise.isEmpty else { return signal }
    let fitted = signal.indices.map { noise[$0 % noise.count] }
    let energy = { (x: [Float]) in x.reduce(0.0) { $0 + Double($1) * Double($1) } }
    let scale = (energy(signal) / max(energy(fitted), 1e-20) / pow(10, decibels / 10)).squareRoot()
    return zip(signal, fitted).map { $0 + Float(scale) * $1 }
  }
}
