import FlowCore
import FlowStageKit
import Foundation

extension ActionOutcome {
  /// Whether all ranks have it when one has.
  var isShared: Bool {
    switch self {
    case .done, .cancelled: true
    case .rejected, .failed, .missing, .recorded, .broken: false
    }
  }
}

// What workers do that share an action: the first speaks with the engine, the others with the first.
extension Worker {
  /// Hands the first rank's order on.
  static func share(_ order: WorkerOrder, _ ranks: any Communicator) {
    do { _ = try ranks.broadcast(order.bytes) } catch { giveUp("\(error)", ranks) }
  }

  /// The life of a rank that isn't the first: one order.
  static func follow(_ executor: LocalExecutor, _ ranks: any Communicator) -> Never {
    do {
      guard case .run(let action, let grant)? = WorkerOrder(try ranks.broadcast([])) else {
        giveUp("the first rank's order can't be read", ranks)
      }
      let outcome = executor.execute(action, grant: grant, progress: { _, _ in }, log: { _ in })
      switch outcome {
      case .done, .cancelled: leave(outcome, ranks)
      case .recorded: giveUp("a worker doesn't keep records", ranks)
      case .rejected(let reason), .broken(let reason), .failed(_, let reason, _): giveUp(reason, ranks)
      case .missing(let digest): giveUp("object \(digest.short) is damaged or missing", ranks)
      }
    } catch { giveUp("\(error)", ranks) }
  }

  /// Ends a rank that has its outcome; where it isn't the same for all, the others with it.
  static func leave(_ outcome: ActionOutcome, _ ranks: any Communicator) -> Never {
    do {
      if outcome.isShared { try ranks.finish() } else { ranks.abort() }
    } catch { ranks.abort() }
    _exit(0)
  }

  /// Ends all ranks because this one can't go on. What is wrong with all of them, the first tells the engine meanwhile.
  private static func giveUp(_ reason: String, _ ranks: any Communicator) -> Never {
    FileHandle.standardError.write(Data("flow: rank \(ranks.rank): \(reason)\n".utf8))
    if ranks.rank > 0 { sleep(2) }
    ranks.abort()
    _exit(1)
  }

  /// Ends this process when the one that started it has gone, however that came.
  static func endWithParent() {
    let parent = getppid()
    let watch = Thread {
      while getppid() == parent { usleep(200_000) }
      // The launcher would have removed what the ranks share.
      for line in (try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8))?.split(separator: "\n")
        ?? []
      {
        if let path = line.split(separator: " ").last, path.hasPrefix("/dev/shm/vader_segment.") {
          unlink(String(path))
        }
      }
      _exit(1)
    }
    watch.start()
  }
}
