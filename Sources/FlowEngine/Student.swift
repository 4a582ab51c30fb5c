import Foundation

/// Student's t distribution, for confidence intervals of means.
enum Student {
  /// The t that a variable of `freedom` degrees exceeds in size with probability 1 - `confidence`.
  static func quantile(_ confidence: Double, freedom: Double) -> Double {
    var (low, high) = (0.0, 1.0)
    while inside(high, freedom) < confidence, high < 1e9 { high *= 2 }
    for _ in 0..<100 {
      let middle = (low + high) / 2
      if inside(middle, freedom) < confidence { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// The probability of a size below `t`: 1 - I_x(n/2, 1/2) with x = n / (n + t²) (DLMF 8.17).
  private static func inside(_ t: Double, _ n: Double) -> Double { 1 - beta(n / (n + t * t), n / 2, 0.5) }

  /// The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22), evaluated from its end.
  private static func beta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    if x <= 0 { return 0 }
    if x >= 1 { return 1 }
    // The fraction converges quickly on this side; the other is its mirror.
    if x > (a + 1) / (a + b + 2) { return 1 - beta(1 - x, b, a) }
    let scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    let front = exp(scale + a * log(x) + b * log(1 - x)) / a
    // About the square root of the larger of a and b is needed.
    let depth = 100 + 4 * Int(max(a, b).squareRoot())
    var tail = 1.0
    for i in (1...depth).reversed() {
      let m = Double(i / 2)
      let (p, q) = (a + 2 * m, a + b + m)
      let step = i.isMultiple(of: 2) ? m * (b - m) * x / ((p - 1) * p) : -(a + m) * q * x / (p * (p + 1))
      tail = 1 + step / tail
    }
    return front / tail
  }
}
