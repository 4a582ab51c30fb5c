public import FlowCore
import Foundation
import Synchronization

/// Ranks that are threads of this process, to try what ranks do without starting any.
public final class ThreadRank: Communicator {
  /// What the ranks of one group share.
  private final class Group: Sendable {
    struct State {
      var given: [Int: [Float]] = [:]
      var bytes: [UInt8] = []
      var arrived = 0
      var round = 0
    }
    let size: Int
    let state = Mutex(State())
    let condition = NSCondition()

    init(_ size: Int) { self.size = size }

    /// Waits until all ranks have come here.
    func meet() {
      condition.lock()
      defer { condition.unlock() }
      let round = state.withLock { state in
        state.arrived += 1
        return state.round
      }
      if state.withLock({ $0.arrived }) == size {
        state.withLock { state in
          state.arrived = 0
          state.round += 1
        }
        condition.broadcast()
      } else {
        while state.withLock({ $0.round }) == round { condition.wait() }
      }
    }
  }

  /// See `Communicator`.
  public let rank: Int
  /// See `Communicator`.
  public var size: Int { group.size }
  private let group: Group

  private init(_ rank: Int, _ group: Group) {
    self.rank = rank
    self.group = group
  }

  /// Runs `body` on `count` threads as the ranks of a group; what each gave, by rank.
  /// - Throws: what one of them threw (the others then have to end by themselves).
  public static func run<Value: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (ThreadRank) throws -> Value
  ) throws -> [Value] {
    let group = Group(count)
    let results = Mutex<[Int: Result<Value, any Error>]>([:])
    let done = DispatchSemaphore(value: 0)
    for rank in 0..<count {
      let thread = Thread {
        let result = Result { try body(ThreadRank(rank, group)) }
        results.withLock { $0[rank] = result }
        done.signal()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    for _ in 0..<count { done.wait() }
    return try results.withLock { results in
      try (0..<count).compactMap { try results[$0]?.get() }
    }
  }

  /// See `Communicator`.
  public func sum(_ values: inout [Float]) {
    let own = values
    group.meet()
    group.state.withLock { $0.given[rank] = own }
    group.meet()
    let given = group.state.withLock { $0.given }
    values = given[0] ?? []
    for rank in 1..<size {
      for (place, value) in (given[rank] ?? []).enumerated() { values[place] += value }
    }
  }

  /// See `Communicator`.
  public func broadcast(_ bytes: [UInt8]) -> [UInt8] {
    group.meet()
    if rank == 0 { group.state.withLock { $0.bytes = bytes } }
    group.meet()
    return group.state.withLock { $0.bytes }
  }

  /// See `Communicator`.
  public func barrier() { group.meet() }

  /// See `Communicator`.
  public func finish() { group.meet() }

  /// See `Communicator`. There is nothing here that could be ended.
  public func abort() { preconditionFailure("a rank was aborted") }
}
