import Foundation
import Synchronization

/// A value that another thread makes while this one goes on. Whoever began it waits for it before leaving.
final class Ahead<Value: Sendable>: Sendable {
  private let make: @Sendable () throws -> Value
  private let made = Mutex<Result<Value, any Error>?>(nil)
  private let work = DispatchGroup()

  /// Begins to make it.
  init(_ make: @escaping @Sendable () throws -> Value) {
    self.make = make
    DispatchQueue.global(qos: .userInitiated).async(group: work) {
      let result = Result(catching: make)
      self.made.withLock { $0 = result }
    }
  }

  /// Waits until nothing of it goes on.
  func wait() { work.wait() }

  /// The value, once it is there.
  /// - Throws: what its making threw.
  func value() throws -> Value {
    wait()
    return try (made.withLock { $0 } ?? Result(catching: make)).get()
  }
}
