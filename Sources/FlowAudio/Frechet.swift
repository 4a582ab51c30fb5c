import COpenBLAS
import Foundation

/// Distances between sets of embeddings, in double precision.
public enum Frechet {
  /// Why a distance can't be had.
  public enum Failure: Error, Sendable, CustomStringConvertible {
    case tooFew(Int)
    case shape
    case notFinite
    case decomposition(Int32)
    /// The message, for a reader.
    public var description: String {
      switch self {
      case .tooFew(let count): "a covariance needs at least 2 embeddings, there are \(count)"
      case .shape: "the two sets have embeddings of different lengths"
      case .notFinite: "an embedding holds a number that is not finite"
      case .decomposition(let code): "the eigen-decomposition did not converge (LAPACK info \(code))"
      }
    }
  }

  /// The Fréchet distance between Gaussians fitted to two sets of rows (Heusel et al. 2017; Kilgour et al. 2019):
  /// |μ₁-μ₂|² + tr C₁ + tr C₂ - 2 tr (C₁^½ C₂ C₁^½)^½, by symmetric eigen-decompositions, never negative.
  /// - Throws: `Failure`.
  public static func distance(_ a: [[Double]], _ b: [[Double]]) throws(Failure) -> Double {
    guard let width = a.first?.count, b.first?.count == width else { throw .shape }
    let (meanA, covarianceA) = try statistics(a)
    let (meanB, covarianceB) = try statistics(b)
    var mean = 0.0
    for i in 0..<width { mean += (meanA[i] - meanB[i]) * (meanA[i] - meanB[i]) }
    let root = try squareRoot(covarianceA, width)
    let inner = multiply(multiply(root, covarianceB, width), root, width)
    var symmetric = inner
    for i in 0..<width {
      for j in 0..<width { symmetric[i * width + j] = (inner[i * width + j] + inner[j * width + i]) / 2 }
    }
    let (values, _) = try eigen(symmetric, width)
    let cross = values.reduce(0) { $0 + max(0, $1).squareRoot() }
    var trace = 0.0
    for i in 0..<width { trace += covarianceA[i * width + i] + covarianceB[i * width + i] }
    return max(0, mean + trace - 2 * cross)
  }

  /// Mean and covariance (denominator n - 1) of rows.
  static func statistics(_ rows: [[Double]]) throws(Failure) -> ([Double], [Double]) {
    guard rows.count >= 2 else { throw .tooFew(rows.count) }
    let width = rows[0].count
    guard rows.allSatisfy({ $0.count == width }) else { throw .shape }
    guard rows.allSatisfy({ $0.allSatisfy(\.isFinite) }) else { throw .notFinite }
    var mean = [Double](repeating: 0, count: width)
    for row in rows { for i in 0..<width { mean[i] += row[i] } }
    for i in 0..<width { mean[i] /= Double(rows.count) }
    var centred: [Double] = []
    centred.reserveCapacity(rows.count * width)
    for row in rows { for i in 0..<width { centred.append(row[i] - mean[i]) } }
    var covariance = [Double](repeating: 0, count: width * width)
    let n = Int32(width)
    flow_blas_dgemm(
      Int32(FLOW_ROW_MAJOR), Int32(FLOW_TRANS), Int32(FLOW_NO_TRANS), n, n,
      Int32(rows.count), 1 / Double(rows.count - 1), centred, n, centred, n, 0, &covariance, n)
    return (mean, covariance)
  }

  private static func multiply(_ a: [Double], _ b: [Double], _ width: Int) -> [Double] {
    var c = [Double](repeating: 0, count: width * width)
    let n = Int32(width)
    flow_blas_dgemm(
      Int32(FLOW_ROW_MAJOR), Int32(FLOW_NO_TRANS), Int32(FLOW_NO_TRANS), n, n, n,
      1, a, n,
      b, n, 0, &c, n)
    return c
  }

  /// Eigenvalues, ascending, and eigenvectors as rows.
  private static func eigen(_ matrix: [Double], _ width: Int) throws(Failure) -> ([Double], [Double]) {
    var vectors = matrix
    var values = [Double](repeating: 0, count: width)
    var n = Int32(width)
    var info: Int32 = 0
    var (workSize, indexSize) = (Int32(-1), Int32(-1))
    var (work, indices) = ([0.0], [Int32(0)])
    flow_blas_dsyevd("V", "U", &n, &vectors, &n, &values, &work, &workSize, &indices, &indexSize, &info)
    workSize = Int32(work[0])
    indexSize = indices[0]
    work = [Double](repeating: 0, count: Int(workSize))
    indices = [Int32](repeating: 0, count: Int(indexSize))
    flow_blas_dsyevd("V", "U", &n, &vectors, &n, &values, &work, &workSize, &indices, &indexSize, &info)
    guard info == 0 else { throw .decomposition(info) }
    return (values, vectors)
  }

  private static func squareRoot(_ matrix: [Double], _ width: Int) throws(Failure) -> [Double] {
    let (values, vectors) = try eigen(matrix, width)
    var scaled = vectors
    for k in 0..<width {
      let root = max(0, values[k]).squareRoot().squareRoot()
      for i in 0..<width { scaled[k * width + i] *= root }
    }
    // Σ λ^½ v vᵀ = Sᵀ S with the rows of S scaled by λ^¼.
    var result = [Double](repeating: 0, count: width * width)
    let n = Int32(width)
    flow_blas_dgemm(
      Int32(FLOW_ROW_MAJOR), Int32(FLOW_TRANS), Int32(FLOW_NO_TRANS), n, n, n, 1,
      scaled, n,
      scaled, n, 0, &result, n)
    return result
  }
}

/// The embedding that needs no weights, `flow-dsp-v1`: per 0.96 s, mean and deviation of 32 log-mel bands and the mean of
/// their change. Fixed and deterministic; distances in it are comparable with nothing but themselves, and it has no
/// published correlation with listeners, so it is always named beside its figures.
public enum DSPEmbedding {
  /// The name that every figure made with it carries.
  public static let name = "flow-dsp-v1"
  /// Numbers per patch.
  public static let width = 96

  /// A row per 0.96 s patch (half overlapping) of `audio`, any rate; none for less than one patch.
  /// - Throws: `AudioFileError` when it can't be resampled.
  public static func rows(_ audio: AudioBuffer) throws(AudioFileError) -> [[Double]] {
    let rate = 16_000
    let samples = try AudioBuffer(audio.mono, sampleRate: audio.sampleRate).resampled(to: rate).channels[0]
    let spectrum = STFT(size: 512, hop: 160).forward(samples)
    let filters = Mel.filters(sampleRate: rate, fft: 512, bands: 32, low: 60, high: 7800)
    let mel = Mel.spectrum(spectrum, filters: filters, power: 2).map { $0.map { log(max($0, 1e-8)) } }
    let patch = 96
    guard mel.count >= patch else { return [] }
    return stride(from: 0, through: mel.count - patch, by: patch / 2).map { start in
      var (means, deviations, changes) = ([Double](), [Double](), [Double]())
      for band in 0..<32 {
        let values = mel[start..<start + patch].map { $0[band] }
        let mean = values.reduce(0, +) / Double(patch)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(patch)
        means.append(mean)
        deviations.append(variance.squareRoot())
        changes.append(
          zip(values.dropFirst(), values).reduce(0) { $0 + abs($1.0 - $1.1) } / Double(patch - 1))
      }
      return means + deviations + changes
    }
  }
}
