import CKernels
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

/// Turns one frame into probabilities of pitch bins.
struct PYINObserver {
  private let settings: PYIN
  private let rate: Double
  private let minPeriod: Int
  private let maxPeriod: Int
  private let bins: Int
  private let prior: [Double]
  private let cumulativePrior: [Double]
  private let fft: RealFFT
  private let size: Int
  private var buffer: [Double]
  private var real: [Double]
  private var imaginary: [Double]
  private var correlation: [Double]
  private var difference: [Double]
  private var troughs: [Int] = []
  private var weights: [Double] = []
  private let normalizers: [Double]
  private let decays: [Double]
  /// The probability of each pitch bin.
  private(set) var observation: [Double]
  /// The exact pitch behind each bin that has a probability, Hz.
  private(set) var refined: [Int: Double] = [:]

  init(settings: PYIN, rate: Double, minPeriod: Int, maxPeriod: Int, bins: Int) {
    self.settings = settings
    self.rate = rate
    self.minPeriod = minPeriod
    self.maxPeriod = maxPeriod
    self.bins = bins
    let cdf = (0...settings.thresholds).map {
      PYINObserver.betaCDF(Double($0) / Double(settings.thresholds), settings.beta.a, settings.beta.b)
    }
    prior = (0..<settings.thresholds).map { cdf[$0 + 1] - cdf[$0] }
    var sums = [0.0]
    for p in prior { sums.append((sums.last ?? 0) + p) }
    cumulativePrior = sums
    var length = 1
    while length < settings.frame + maxPeriod + 1 { length *= 2 }
    size = length
    fft = RealFFT(size)
    buffer = [Double](repeating: 0, count: settings.frame)
    real = [Double](repeating: 0, count: size / 2 + 1)
    imaginary = real
    correlation = [Double](repeating: 0, count: size)
    difference = [Double](repeating: 0, count: maxPeriod - minPeriod + 1)
    observation = [Double](repeating: 0, count: bins)
    // The Boltzmann prior of rank k among N is (1 - e^-λ) e^-λk / (1 - e^-λN).
    normalizers = (0...maxPeriod).map {
      (1 - exp(-settings.boltzmann)) / (1 - exp(-settings.boltzmann * Double(max(1, $0))))
    }
    decays = (0...maxPeriod).map { exp(-settings.boltzmann * Double($0)) }
  }

  /// The regularised incomplete beta function for whole a and b: one less a binomial sum, so that it is exactly 1 where
  /// the rest is below rounding (a prior of rounding noise would make candidates of nothing).
  static func betaCDF(_ x: Double, _ a: Int, _ b: Int) -> Double {
    let n = a + b - 1
    var (rest, choose) = (0.0, 1.0)
    for j in 0..<a {
      if j > 0 { choose *= Double(n - j + 1) / Double(j) }
      rest += choose * pow(x, Double(j)) * pow(1 - x, Double(n - j))
    }
    return 1 - rest
  }

  /// Observes the frame centred at the sample `centre`; the probability that it is voiced.
  mutating func observe(_ samples: [Float], centre: Int) -> Double {
    difference(samples, from: centre - settings.frame / 2)
    for i in observation.indices { observation[i] = 0 }
    refined.removeAll(keepingCapacity: true)
    weighTroughs()
    // In the order of rising period; a later candidate of the same bin replaces an earlier one, as in librosa.
    for (index, lag) in troughs.enumerated() where weights[index] != 0 {
      let period = Double(minPeriod + lag) + shift(lag)
      let pitch = rate / period
      let place = (Double(12 * settings.binsPerSemitone) * log2(pitch / settings.fmin)).rounded(
        .toNearestOrEven)
      let bin = Int(min(max(place, 0), Double(bins)))
      if bin < bins {
        observation[bin] = weights[index]
        refined[bin] = pitch
      }
    }
    return min(max(observation.reduce(0, +), 0), 1)
  }

  /// The cumulative-mean-normalised difference for the lags minPeriod...maxPeriod (de Cheveigné & Kawahara 2002).
  private mutating func difference(_ samples: [Float], from start: Int) {
    for i in 0..<settings.frame {
      let j = start + i
      buffer[i] = j >= 0 && j < samples.count ? Double(samples[j]) : 0
    }
    buffer.withUnsafeBufferPointer { fft.forward($0, &real, &imaginary) }
    for k in real.indices {
      real[k] = real[k] * real[k] + imaginary[k] * imaginary[k]
      imaginary[k] = 0
    }
    fft.inverse(real, imaginary, &correlation)
    var (energy, mean) = (0.0, 0.0)
    let scale = correlation[0]
    for lag in 1...maxPeriod {
      energy += buffer[lag - 1] * buffer[lag - 1]
      // A silent frame has no difference at all; rounding must not make one.
      let value = scale < 1e-12 ? 0 : 2 * (scale - correlation[lag]) - energy
      mean += value
      if lag >= minPeriod { difference[lag - minPeriod] = value / (mean / Double(lag) + 1.1754944e-38) }
    }
  }

  private func shift(_ lag: Int) -> Double {
    guard lag > 0, lag < difference.count - 1 else { return 0 }
    let (left, middle, right) = (difference[lag - 1], difference[lag], difference[lag + 1])
    let a = left + right - 2 * middle
    let b = (right - left) / 2
    return abs(b) >= abs(a) ? 0 : -b / a
  }

  /// The probability of each trough, over all thresholds.
  private mutating func weighTroughs() {
    troughs.removeAll(keepingCapacity: true)
    let last = difference.count - 1
    for lag in difference.indices {
      let value = difference[lag]
      let isTrough =
        lag == 0
        ? value < difference[1]
        : (lag == last
          ? value < difference[lag - 1] : value < difference[lag - 1] && value <= difference[lag + 1])
      if isTrough { troughs.append(lag) }
    }
    weights = [Double](repeating: 0, count: troughs.count)
    guard let lowest = troughs.indices.min(by: { difference[troughs[$0]] < difference[troughs[$1]] }) else {
      return
    }
    let count = settings.thresholds
    var below: [Int] = []
    for t in 1...count {
      let threshold = Double(t) / Double(count)
      below.removeAll(keepingCapacity: true)
      for index in troughs.indices where difference[troughs[index]] < threshold { below.append(index) }
      for (rank, index) in below.enumerated() {
        weights[index] += prior[t - 1] * normalizers[below.count] * decays[rank]
      }
    }
    let missed = (1...count).filter { difference[troughs[lowest]] >= Double($0) / Double(count) }.count
    weights[lowest] += settings.noTroughProbability * cumulativePrior[missed]
  }
}

/// Viterbi over (voiced, unvoiced) × pitch, exact for a banded transition between pitches.
struct BandedViterbi {
  private let bins: Int
  private let reach: Int
  private let band: [Double]
  private let rowSums: [Double]
  private let stay: Double
  private let change: Double
  private var value: [[Double]]
  private var from: [[Int32]] = []
  private let tiny = log(Double.leastNormalMagnitude)

  init(bins: Int, width: Int, switchProbability: Double, frames: Int) {
    self.bins = bins
    reach = width / 2
    let peak = Double(width + 1) / 2
    let weights = (0..<width).map { 1 - abs(Double($0) - Double(width - 1) / 2) / peak }
    band = weights.map { log($0) }
    rowSums = (0..<bins).map { i in
      log(
        (max(0, i - width / 2)...min(bins - 1, i + width / 2)).reduce(0) { $0 + weights[$1 - i + width / 2] })
    }
    stay = log(1 - switchProbability)
    change = log(switchProbability)
    value = [[Double](repeating: 0, count: bins), [Double](repeating: 0, count: bins)]
    from.reserveCapacity(frames)
  }

  /// Takes the observations of the next frame.
  mutating func advance(_ frame: Int, voiced: [Double], unvoiced: Double) {
    let quiet = log(unvoiced + Double.leastNormalMagnitude)
    if frame == 0 {
      let start = -log(Double(2 * bins))
      for j in 0..<bins {
        value[0][j] = log(voiced[j] + Double.leastNormalMagnitude) + start
        value[1][j] = quiet + start
      }
      from.append([])
      return
    }
    // The best state of all can reach any other with the smallest representable probability, as in librosa.
    var (top, topState) = (-Double.infinity, 0)
    for v in 0..<2 {
      for j in 0..<bins where value[v][j] > top { (top, topState) = (value[v][j], v * bins + j) }
    }
    let jump = top + tiny
    var pointers = [Int32](repeating: 0, count: 2 * bins)
    var next = value
    var source = [Double](repeating: 0, count: bins)
    var sourceIsOther = [Bool](repeating: false, count: bins)
    var best = [Double](repeating: 0, count: bins)
    var index = [Int32](repeating: 0, count: bins)
    for target in 0..<2 {
      for i in 0..<bins {
        let same = value[target][i] + stay
        let other = value[1 - target][i] + change
        // On a tie the smaller state number wins: the voiced one.
        sourceIsOther[i] = target == 0 ? other > same : other >= same
        source[i] = max(same, other) - rowSums[i]
      }
      flow_band_max(&best, &index, source, band, bins, reach)
      for j in 0..<bins {
        let i = Int(index[j])
        let voicing = sourceIsOther[i] ? 1 - target : target
        var (gain, state) = (best[j], voicing * bins + i)
        if jump > gain { (gain, state) = (jump, topState) }
        next[target][j] = gain + (target == 0 ? log(voiced[j] + Double.leastNormalMagnitude) : quiet)
        pointers[target * bins + j] = Int32(state)
      }
    }
    value = next
    from.append(pointers)
  }

  /// The most probable states, one per frame: bin, or bins + bin when unvoiced.
  func path() -> [Int] {
    var (top, state) = (-Double.infinity, 0)
    for v in 0..<2 {
      for j in 0..<bins where value[v][j] > top { (top, state) = (value[v][j], v * bins + j) }
    }
    var states = [Int](repeating: 0, count: from.count)
    for frame in stride(from: from.count - 1, through: 0, by: -1) {
      states[frame] = state
      if frame > 0 { state = Int(from[frame][state]) }
    }
    return states
  }
}
