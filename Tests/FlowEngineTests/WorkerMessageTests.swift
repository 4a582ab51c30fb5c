import FlowCore
import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowEngine

/// What engine and worker say to each other.
@Suite struct WorkerMessageTests {
  private let item = Item(
    id: "a/ü", files: [ItemFile(name: "b.wav", digest: Digest(of: "b"), size: 1 << 40)],
    attributes: ["tempo": 120.0, "tags": ["x", .null]])

  private func action(_ command: CommandTemplate?) -> Action {
    Action(
      key: Digest(of: "key"), stage: "tune", version: 3, perItem: true, outputs: ["f0", "report"],
      parameters: ["rate": 1.0, "count": 1, "name": "a \"b\"\n", "off": .null],
      inputs: ["audio": [item], "none": []],
      command: command, files: ["/x/y.sf2"], preimage: "")
  }

  private var orders: [WorkerOrder] {
    var command = CommandTemplate(words: ["cp", "{in.a}"], shell: true, environment: ["A": "1", "B": ""])
    command.sandbox = false
    command.reads = ["/models"]
    return [
      .run(action(nil), Grant(threads: 2, memory: 1 << 33, gpus: ["0", "GPU-7"])),
      .run(action(command), Grant(threads: 1)), .cancel, .end,
    ]
  }

  private var messages: [WorkerMessage] {
    [
      .progress(0.25, "step 3"), .log("a\nb"), .rejected("no notes"), .failed(.outOfMemory, "m", "h"),
      .failed(.other, "m", nil), .missing(Digest(of: "x")), .broken("disk"), .cancelled,
      .done(outputs: ["f0": [item]], metrics: ["loss": -0.0, "e": 1e-300], peakMemory: 123),
    ]
  }

  /// `1.0` and `1` among parameters stay apart.
  @Test func whatIsSaidArrives() {
    for order in orders { #expect(WorkerOrder(order.bytes) == order) }
    for message in messages { #expect(WorkerMessage(message.bytes) == message) }
  }

  @Test func whatIsCutOffIsRefused() {
    for order in orders {
      for length in 0..<order.bytes.count { #expect(WorkerOrder(Array(order.bytes.prefix(length))) == nil) }
      #expect(WorkerOrder(order.bytes + [0]) == nil)
    }
    for message in messages {
      for length in 0..<message.bytes.count {
        #expect(WorkerMessage(Array(message.bytes.prefix(length))) == nil)
      }
    }
    #expect(WorkerOrder(Array("{\"action\":{}}\n".utf8)) == nil, "that of an earlier version")
  }

  /// Pieces larger than a pipe holds, written by several threads, come whole.
  @Test func piecesComeWhole() async throws {
    let pipe = Pipe()
    let (writer, reader) = (
      Frames(pipe.fileHandleForWriting.fileDescriptor), Frames(pipe.fileHandleForReading.fileDescriptor)
    )
    let sizes = [0, 1, 3, 70_000, 300_001, 65_536, 12]
    await withTaskGroup(of: Void.self) { group in
      for (i, size) in sizes.enumerated() {
        group.addTask {
          await BlockingThreads.shared.run { writer.send([UInt8](repeating: UInt8(i), count: size)) }
        }
      }
      group.addTask {
        var found: [Int] = []
        for _ in sizes {
          guard let piece = await BlockingThreads.shared.run({ reader.receive() }) else { break }
          if let first = piece.first { #expect(piece.allSatisfy { $0 == first }) }
          found.append(piece.count)
        }
        #expect(found.sorted() == sizes.sorted())
      }
    }
    try pipe.fileHandleForWriting.close()
    #expect(reader.receive() == nil)
  }

  /// As many block at once as want to, far more than the cooperative pool has threads; afterwards the threads serve again.
  @Test func blockedThreadsHoldNobodyUp() async {
    for _ in 0..<2 {
      let meeting = Meeting(of: 64)
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<64 { group.addTask { await BlockingThreads.shared.run { meeting.attend() } } }
      }
      #expect(meeting.count == 64)
    }
  }
}

/// Nobody leaves before all have come.
private final class Meeting: Sendable {
  private let size: Int
  private let come = Mutex(0)
  private let all = DispatchSemaphore(value: 0)

  init(of size: Int) { self.size = size }

  var count: Int { come.withLock { $0 } }

  func attend() {
    let isLast = come.withLock { come in
      come += 1
      return come == size
    }
    if isLast { for _ in 0..<size { all.signal() } }
    all.wait()
  }
}
