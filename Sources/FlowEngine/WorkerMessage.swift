import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation
import Synchronization

/// What the engine tells a worker.
enum WorkerOrder: Sendable, Hashable {
  /// To run this, within that. The key's preimage doesn't travel: a worker has no use for it.
  case run(Action, Grant)
  /// To stop the running stage at its next checkpoint.
  case cancel
  /// To end at once, with all that it started.
  case end
}

/// What a worker tells the engine.
enum WorkerMessage: Sendable, Hashable {
  case progress(Double, String)
  case log(String)
  case done(outputs: [String: [Item]], metrics: [String: Double], peakMemory: Int)
  case rejected(String)
  case failed(FailureCause, String, String?)
  case missing(Digest)
  case broken(String)
  case cancelled
}

// The two are one program, so bytes will do: thousands of actions of a millisecond each pass here, and JSON took a fifth of
// their time. A worker that was installed meanwhile may be another version; that is said in front.

extension WorkerOrder {
  private static let version = "flow-order/1"

  var bytes: [UInt8] {
    var writer = ByteWriter()
    writer.text(WorkerOrder.version)
    switch self {
    case .run(let action, let grant):
      writer.number(0)
      writer.action(action)
      writer.number(grant.threads)
      writer.number(grant.memory)
      writer.list(grant.gpus) { $0.text($1) }
    case .cancel: writer.number(1)
    case .end: writer.number(2)
    }
    return writer.bytes
  }

  init?(_ bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    guard reader.text() == WorkerOrder.version, let kind = reader.number() else { return nil }
    switch kind {
    case 0:
      guard let action = reader.action(), let threads = reader.number(), let memory = reader.number(),
        let gpus = reader.list({ $0.text() })
      else { return nil }
      self = .run(action, Grant(threads: threads, memory: memory, gpus: gpus))
    case 1: self = .cancel
    case 2: self = .end
    default: return nil
    }
    if !reader.isAtEnd { return nil }
  }
}

extension WorkerMessage {
  var bytes: [UInt8] {
    var writer = ByteWriter()
    switch self {
    case .progress(let fraction, let note):
      writer.number(0)
      writer.double(fraction)
      writer.text(note)
    case .log(let line):
      writer.number(1)
      writer.text(line)
    case .done(let outputs, let metrics, let memory):
      writer.number(2)
      writer.ports(outputs)
      writer.metrics(metrics)
      writer.number(memory)
    case .rejected(let reason):
      writer.number(3)
      writer.text(reason)
    case .failed(let cause, let message, let help):
      writer.number(4)
      writer.text(cause.rawValue)
      writer.text(message)
      writer.list(help.map { [$0] } ?? []) { $0.text($1) }
    case .missing(let digest):
      writer.number(5)
      writer.digest(digest)
    case .broken(let message):
      writer.number(6)
      writer.text(message)
    case .cancelled: writer.number(7)
    }
    return writer.bytes
  }

  init?(_ bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    switch reader.number() {
    case 0:
      guard let fraction = reader.double(), let note = reader.text() else { return nil }
      self = .progress(fraction, note)
    case 1:
      guard let line = reader.text() else { return nil }
      self = .log(line)
    case 2:
      guard let outputs = reader.ports(), let metrics = reader.metrics(), let memory = reader.number() else {
        return nil
      }
      self = .done(outputs: outputs, metrics: metrics, peakMemory: memory)
    case 3:
      guard let reason = reader.text() else { return nil }
      self = .rejected(reason)
    case 4:
      guard let cause = reader.text().flatMap(FailureCause.init), let message = reader.text(),
        let help = reader.list({ $0.text() })
      else { return nil }
      self = .failed(cause, message, help.first)
    case 5:
      guard let digest = reader.digest() else { return nil }
      self = .missing(digest)
    case 6:
      guard let message = reader.text() else { return nil }
      self = .broken(message)
    case 7: self = .cancelled
    default: return nil
    }
    if !reader.isAtEnd { return nil }
  }
}

extension ByteWriter {
  fileprivate mutating func action(_ action: Action) {
    digest(action.key)
    text(action.stage)
    number(action.version)
    number(action.perItem ? 1 : 0)
    list(action.outputs) { $0.text($1) }
    text(JSON.object(action.parameters).canonical)
    ports(action.inputs)
    list(action.command.map { [$0] } ?? []) { writer, command in
      writer.list(command.words) { $0.text($1) }
      writer.number(command.shell ? 1 : 0)
      writer.list(Array(command.environment)) { writer, variable in
        writer.text(variable.key)
        writer.text(variable.value)
      }
      writer.number(command.sandbox ? 1 : 0)
      writer.list(command.reads) { $0.text($1) }
    }
    list(action.files) { $0.text($1) }
  }
}

extension ByteReader {
  fileprivate mutating func action() -> Action? {
    guard let key = digest(), let stage = text(), let version = number(), let perItem = number(),
      let outputs = list({ $0.text() }), let given = text(),
      case .object(let parameters)? = try? JSON(parsing: given.utf8), let inputs = ports(),
      let command = list({ $0.command() }), let files = list({ $0.text() })
    else { return nil }
    return Action(
      key: key, stage: stage, version: version, perItem: perItem == 1, outputs: outputs,
      parameters: parameters, inputs: inputs, command: command.first, files: files, preimage: "")
  }

  private mutating func command() -> CommandTemplate? {
    let variable = { (reader: inout ByteReader) -> (String, String)? in
      guard let name = reader.text(), let value = reader.text() else { return nil }
      return (name, value)
    }
    guard let words = list({ $0.text() }), let shell = number(), let environment = list(variable),
      let sandbox = number(), let reads = list({ $0.text() })
    else { return nil }
    var command = CommandTemplate(
      words: words, shell: shell == 1, environment: Dictionary(environment, uniquingKeysWith: { $1 }))
    command.sandbox = sandbox == 1
    command.reads = reads
    return command
  }
}

/// One end of a pipe on which pieces of bytes go, each with its length before it.
final class Frames: Sendable {
  private let file: Int32
  private let unread = Mutex<[UInt8]>([])
  private let writing = Mutex(())

  /// Over the open file `file`, which stays its owner's.
  init(_ file: Int32) { self.file = file }

  /// Writes a piece, whole even when several threads write. When the other end has gone, nobody misses it.
  func send(_ bytes: [UInt8]) {
    var frame = withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { Array($0) }
    frame += bytes
    writing.withLock { _ in
      var done = 0
      while done < frame.count {
        let count = frame.withUnsafeBytes { write(file, $0.baseAddress?.advanced(by: done), $0.count - done) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        done += count
      }
    }
  }

  /// The next piece; `nil` when the other end has gone. For one thread at a time.
  func receive() -> [UInt8]? {
    unread.withLock { unread in
      while true {
        if unread.count >= 4 {
          let length = Int(
            unread.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) })
          if unread.count - 4 >= length {
            defer { unread.removeFirst(4 + length) }
            return Array(unread[4..<(4 + length)])
          }
        }
        let more = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
          repeat { count = read(file, buffer.baseAddress, buffer.count) } while count < 0 && errno == EINTR
          count = max(0, count)
        }
        if more.isEmpty { return nil }
        unread += more
      }
    }
  }
}
