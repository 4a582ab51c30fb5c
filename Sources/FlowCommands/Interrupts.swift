import Foundation
import Synchronization

/// SIGINT, SIGTERM and SIGHUP while something runs: the first asks it to stop, the second ends the process at once. Either
/// way the exit code is 128 and the signal's number.
final class Interrupts: Sendable {
  private let message: String
  private let cancel: @Sendable () -> Void
  /// The first signal that came; 0 before.
  private let first = Atomic<Int32>(0)

  /// From now on signals are for this one, until another is made.
  /// - Parameters:
  ///   - message: what to tell the user.
  ///   - cancel: called at the first signal, on another thread.
  init(_ message: String, _ cancel: @escaping @Sendable () -> Void) {
    self.message = message
    self.cancel = cancel
    Interrupts.current.withLock { $0 = self }
    _ = Interrupts.listening
  }

  /// 128 and the number of the signal that came; `nil` when none has.
  var exitCode: Int32? {
    let number = first.load(ordering: .sequentiallyConsistent)
    return number == 0 ? nil : 128 + number
  }

  private func receive(_ number: Int32) {
    let (isFirst, _) = first.compareExchange(expected: 0, desired: number, ordering: .sequentiallyConsistent)
    if !isFirst { _exit(128 + number) }
    Terminal.error("interrupted: \(message)")
    cancel()
  }

  private static let current = Mutex<Interrupts?>(nil)

  /// The handlers write to a pipe that one thread reads, for the life of the process: a dispatch source of a signal that
  /// another source had before never fires on Linux.
  private static let listening: Bool = {
    let numbers = [SIGINT, SIGTERM, SIGHUP].filter { number in
      var action = sigaction()
      sigaction(number, nil, &action)
      let handler = action.__sigaction_handler.sa_handler.map { unsafeBitCast($0, to: Int.self) }
      // SIGHUP that the caller had ignored, as nohup does, stays so; 1 is SIG_IGN.
      return number != SIGHUP || handler != 1
    }
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { return false }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let (reading, writing) = (ends[0], ends[1])
    door.store(writing, ordering: .sequentiallyConsistent)
    for number in numbers {
      signal(number) { number in
        // A write is all that may be done here.
        var byte = UInt8(truncatingIfNeeded: number)
        _ = write(Interrupts.door.load(ordering: .relaxed), &byte, 1)
      }
    }
    let thread = Thread {
      var byte: UInt8 = 0
      while true {
        let count = read(reading, &byte, 1)
        if count < 0, errno == EINTR { continue }
        guard count == 1 else { return }
        current.withLock { $0 }?.receive(Int32(byte))
      }
    }
    thread.start()
    return true
  }()

  /// Where the handler writes to.
  private static let door = Atomic<Int32>(-1)
}
