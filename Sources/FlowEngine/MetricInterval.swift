import FlowCore
public import FlowStore
import Foundation

/// How sure the difference of a metric's two means is: the 95 % interval of Student's t.
public struct MetricInterval: Sendable, Hashable {
  /// The ends of the interval of the difference, new minus old.
  public var low: Double, high: Double
  /// The items it stands on; of each side where they are not the same ones.
  public var items: Int, oldItems: Int
  /// Whether each item was compared with itself.
  public var isPaired: Bool

  /// From the values of items by name. Paired over the items of both sides when there are two at least, else by Welch's
  /// rule over all of each side; `nil` where a side has fewer than two.
  public init?(old: [String: Double], new: [String: Double]) {
    let both = old.keys.filter { new[$0] != nil }.sorted()
    if both.count >= 2 {
      let differences = both.map { (new[$0] ?? 0) - (old[$0] ?? 0) }
      let (mean, variance) = MetricInterval.moments(differences)
      let half =
        Student.quantile(0.95, freedom: Double(both.count - 1)) * (variance / Double(both.count)).squareRoot()
      (low, high, items, oldItems, isPaired) = (mean - half, mean + half, both.count, both.count, true)
      return
    }
    guard old.count >= 2, new.count >= 2 else { return nil }
    let (a, b) = (MetricInterval.moments(Array(old.values)), MetricInterval.moments(Array(new.values)))
    let (u, v) = (a.variance / Double(old.count), b.variance / Double(new.count))
    let spread = u * u / Double(old.count - 1) + v * v / Double(new.count - 1)
    let freedom = spread > 0 ? (u + v) * (u + v) / spread : Double(old.count + new.count - 2)
    let half = Student.quantile(0.95, freedom: freedom) * (u + v).squareRoot()
    (low, high) = (b.mean - a.mean - half, b.mean - a.mean + half)
    (items, oldItems, isPaired) = (new.count, old.count, false)
  }

  private static func moments(_ values: [Double]) -> (mean: Double, variance: Double) {
    // In one order, so that the last bit doesn't hang on a dictionary's.
    let sorted = values.sorted()
    let mean = sorted.reduce(0, +) / Double(sorted.count)
    return (mean, sorted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, sorted.count - 1)))
  }
}

/// What each item measured, as far as the store still knows what a lock file's block says.
public struct ItemMetrics {
  private let manifest: PipelineManifest

  /// Those of the pipeline called `name`.
  public init(_ store: Store, pipeline name: String) { manifest = PipelineManifest(store, pipeline: name) }

  /// By metric, then by item; `nil` when no kept manifest has what the block says went in and came out.
  public func values(_ name: String, _ block: LockDocument.Stage) -> [String: [String: Double]]? {
    func isIn(_ trees: [String: Tree], _ section: String) -> Bool {
      let lines = block.sections[section] ?? [:]
      return lines.count == trees.count
        && trees.allSatisfy { lines[$0.key]?.contains($0.value.digest.hex) ?? false }
    }
    guard
      let known = manifest.stages[name]?.first(where: {
        isIn($0.inputs, "inputs") && isIn($0.outputs, "outputs")
      }),
      let units = manifest.units(known)
    else { return nil }
    var result: [String: [String: Double]] = [:]
    for unit in units {
      for (metric, value) in unit.metrics { result[metric, default: [:]][unit.item] = value }
    }
    return result
  }
}
