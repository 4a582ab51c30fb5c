import Foundation

/// Several processes (ranks) that do one thing together. Every call but `abort` is collective: it returns when all ranks
/// have made it, and all make the same calls in the same order.
public protocol Communicator: Sendable {
  /// Which of the ranks this is, from 0.
  var rank: Int { get }
  /// How many there are.
  var size: Int { get }
  /// Replaces each value by its sum over the ranks, added in their order: all get the same bits, and the same each time.
  /// The ranks give equally many.
  func sum(_ values: inout [Float]) throws
  /// Rank 0's bytes, on all ranks. What the others give doesn't matter.
  func broadcast(_ bytes: [UInt8]) throws -> [UInt8]
  /// Waits for all ranks.
  func barrier() throws
  /// Leaves the others, when all have come here; nothing more can be called.
  func finish() throws
  /// Ends every rank at once, this one too.
  func abort()
}

extension Communicator {
  /// The sum of a value over the ranks.
  public func sum(_ value: Float) throws -> Float {
    var values = [value]
    try sum(&values)
    return values[0]
  }
}

/// A rank that is alone: what everything is that doesn't ask for more.
public struct SoleRank: Communicator {
  /// The rank.
  public init() {}
  /// 0.
  public var rank: Int { 0 }
  /// 1.
  public var size: Int { 1 }
  /// Leaves them as they are.
  public func sum(_ values: inout [Float]) {}
  /// The same bytes.
  public func broadcast(_ bytes: [UInt8]) -> [UInt8] { bytes }
  /// Returns.
  public func barrier() {}
  /// Returns.
  public func finish() {}
  /// Ends this process.
  public func abort() { _exit(1) }
}
