import Foundation

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
