import CKernels
import Foundation

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
