import Foundation

/// Probabilistic YIN (Mauch & Dixon 2014) with an exact Viterbi search, equal to librosa 0.11's `pyin`. The search uses the
/// structure of the transitions (a triangle over pitch, times staying voiced or not) and prunes nothing.
public struct PYIN: Sendable {
  /// Lowest pitch searched, Hz.
  public var fmin: Double
  /// Highest pitch searched, Hz.
  public var fmax: Double
  /// Samples of a frame.
  public var frame = 2048
  /// Samples between frames.
  public var hop = 512
  /// Pitch bins in a semitone.
  public var binsPerSemitone = 10
  /// Largest change of pitch, octaves per second.
  public var maxTransitionRate = 35.92
  /// Probability of a change between voiced and unvoiced.
  public var switchProbability = 0.01
  /// Probability left to the global minimum when no trough is below a threshold.
  public var noTroughProbability = 0.01
  /// Rate of the Boltzmann prior over troughs.
  public var boltzmann = 2.0
  /// Parameters (whole numbers) of the Beta prior over thresholds.
  public var beta = (a: 2, b: 18)
  /// Thresholds tried.
  public var thresholds = 100

  /// The tracker for pitches from `fmin` to `fmax`, the rest as librosa's defaults.
  public init(fmin: Double, fmax: Double) {
    self.fmin = fmin
    self.fmax = fmax
  }

  /// Pitch per frame; frame i is centred at sample i · hop.
  public struct Track: Sendable, Hashable {
    /// Samples between frames over the rate: seconds between frames.
    public var step: Double
    /// The centre of the pitch bin of each frame, Hz, also where it is unvoiced.
    public var f0: [Double]
    /// The same refined within its bin by the parabola through the trough, Hz.
    public var refined: [Double]
    /// Whether the frame is voiced.
    public var voiced: [Bool]
    /// The probability that it is voiced.
    public var probability: [Double]
  }

  /// Why the parameters fit no signal of this rate.
  public struct BadRange: Error, Sendable, CustomStringConvertible {
    /// What is wrong.
    public let description: String
  }

  /// Tracks one channel.
  /// - Throws: `BadRange` when no period between fmin and fmax fits the rate and frame.
  public func track(_ samples: [Float], sampleRate: Int) throws(BadRange) -> Track {
    let rate = Double(sampleRate)
    let minPeriod = Int((rate / fmax).rounded(.down))
    let maxPeriod = min(Int((rate / fmin).rounded(.up)), frame - 1)
    guard fmin > 0, fmax > fmin, minPeriod >= 1, maxPeriod > minPeriod + 1, hop > 0 else {
      throw BadRange(
        description:
          "no period from \(fmin) to \(fmax) Hz fits a rate of \(sampleRate) Hz and a frame of \(frame) samples"
      )
    }
    let bins = Int((12 * Double(binsPerSemitone) * log2(fmax / fmin)).rounded(.down)) + 1
    let frames = 1 + samples.count / hop
    var search = BandedViterbi(
      bins: bins, width: transitionWidth(rate), switchProbability: switchProbability, frames: frames)
    var observer = PYINObserver(
      settings: self, rate: rate, minPeriod: minPeriod, maxPeriod: maxPeriod, bins: bins)
    var probability = [Double](repeating: 0, count: frames)
    var refined = [[Int: Double]](repeating: [:], count: frames)
    for f in 0..<frames {
      let voicedProbability = observer.observe(samples, centre: f * hop)
      probability[f] = voicedProbability
      refined[f] = observer.refined
      search.advance(f, voiced: observer.observation, unvoiced: (1 - voicedProbability) / Double(bins))
    }
    let states = search.path()
    let centres = (0..<bins).map { fmin * exp2(Double($0) / Double(12 * binsPerSemitone)) }
    let bin = states.map { $0 % bins }
    return Track(
      step: Double(hop) / rate, f0: bin.map { centres[$0] },
      refined: zip(bin, refined).map { $1[$0] ?? centres[$0] }, voiced: states.map { $0 < bins },
      probability: probability)
  }

  private func transitionWidth(_ rate: Double) -> Int {
    let semitones = (maxTransitionRate * 12 * Double(hop) / rate).rounded(.toNearestOrEven)
    return Int(semitones) * binsPerSemitone + 1
  }
}
