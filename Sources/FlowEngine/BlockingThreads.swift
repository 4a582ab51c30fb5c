import Foundation
import Synchronization

/// Threads for calls that block, which the cooperative pool can't lend: each waits for the next call when its own is over.
/// A thread made for every call costs as much as a short action.
final class BlockingThreads: Sendable {
  static let shared = BlockingThreads()

  private final class Seat: Sendable {
    let work = Mutex<(@Sendable () -> Void)?>(nil)
    let given = DispatchSemaphore(value: 0)
  }
  private let idle = Mutex<[Seat]>([])

  /// Calls `body` on one of the threads.
  func run<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { continuation in
      give { continuation.resume(returning: body()) }
    }
  }

  private func give(_ work: @escaping @Sendable () -> Void) {
    if let seat = idle.withLock({ $0.popLast() }) {
      seat.work.withLock { $0 = work }
      seat.given.signal()
      return
    }
    let thread = Thread { [self] in
      let seat = Seat()
      var next = Optional(work)
      while let work = next {
        work()
        idle.withLock { $0.append(seat) }
        seat.given.wait()
        next = seat.work.withLock { work in
          defer { work = nil }
          return work
        }
      }
    }
    thread.stackSize = 1 << 20
    thread.start()
  }
}
