import Foundation
import Testing

@testable import FlowEngine

@Suite struct MetricIntervalTests {
  /// Two-sided 95 % quantiles, from printed tables.
  @Test(arguments: [
    (1.0, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980), (10_000, 1.960),
  ])
  func quantilesAreThoseOfTheTables(_ freedom: Double, _ wanted: Double) {
    #expect(abs(Student.quantile(0.95, freedom: freedom) - wanted) < 6e-4)
  }

  @Test func theSameItemsAreComparedWithThemselves() throws {
    let old = ["a": 1.0, "b": 5, "c": 9, "gone": 100]
    let new = ["a": 2.0, "b": 6.5, "c": 10, "fresh": -100]
    let interval = try #require(MetricInterval(old: old, new: new))
    // Differences 1, 1.5, 1: mean 7/6, deviation 0.2887, t(2) 4.303.
    #expect(interval.isPaired && interval.items == 3)
    #expect(abs((interval.low + interval.high) / 2 - 7.0 / 6) < 1e-12)
    #expect(abs((interval.high - interval.low) / 2 - 4.3027 * 0.288675 / 3.0.squareRoot()) < 1e-4)
  }

  @Test func otherItemsAreComparedAsGroups() throws {
    let interval = try #require(
      MetricInterval(old: ["a": 1, "b": 2, "c": 3], new: ["d": 11, "e": 12, "f": 13]))
    // Welch: difference 10, error sqrt(1/3 + 1/3), 4 degrees of freedom, t 2.776.
    #expect(!interval.isPaired && interval.items == 3 && interval.oldItems == 3)
    #expect(abs(interval.low - (10 - 2.7764 * (2.0 / 3).squareRoot())) < 1e-3)
    #expect(MetricInterval(old: ["a": 1], new: ["a": 2]) == nil)
  }
}
