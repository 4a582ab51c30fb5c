import Foundation

/// How fast a training goes, for those who wait for it.
struct Pace {
  private let total: Int
  private let first: (step: Int, seconds: Double)

  /// - Parameters:
  ///   - total: steps in all.
  ///   - step: steps taken before.
  ///   - seconds: the time now.
  init(total: Int, step: Int, seconds: Double) {
    self.total = total
    first = (step, seconds)
  }

  /// What is said at the time `seconds`, after `step` steps.
  func note(step: Int, seconds: Double) -> String {
    let (taken, passed) = (step - first.step, seconds - first.seconds)
    guard taken > 0, passed > 0 else { return "" }
    let each = passed / Double(taken)
    let speed =
      each < 1 ? String(format: "%.1f steps/s", 1 / each) : String(format: "%.1f s a step", each)
    return speed + ", " + Pace.text(each * Double(total - step)) + " left"
  }

  /// A time as people say it.
  static func text(_ seconds: Double) -> String {
    switch seconds {
    case ..<100: "\(Int(seconds.rounded())) s"
    case ..<6000: "\(Int((seconds / 60).rounded())) min"
    case ..<172_800: String(format: "%.1f h", seconds / 3600)
    default: String(format: "%.1f days", seconds / 86_400)
    }
  }
}
