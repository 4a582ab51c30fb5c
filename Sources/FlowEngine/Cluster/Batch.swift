import FlowCore
import FlowPlan
import FlowStore
import Foundation

/// What lies in the store about actions that a cluster runs together: a folder `runs/batches/ID` with, per task (some
/// actions in a row on one node), a document of what to do, a log, and the events that its node reports. Submitter and
/// nodes share nothing else, so either may die.
struct Batch: Sendable, Hashable {
  /// The stage's name and sixteen drawn digits: the name of the folder and of the cluster's job.
  let id: String
  let folder: String

  init(_ store: Store, id: String) {
    self.id = id
    folder = "\(store.root)/runs/batches/\(id)"
  }

  /// One that no other has.
  static func new(_ store: Store, stage: String) -> Batch {
    let name = stage.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" }
    let hex = String(UInt64.random(in: 0 ... .max), radix: 16)
    return Batch(
      store, id: "\(String(name.prefix(40)))-\(String(repeating: "0", count: 16 - hex.count))\(hex)")
  }

  func document(_ task: Int) -> String { "\(folder)/\(task).json" }
  func events(_ task: Int) -> String { "\(folder)/\(task).events" }
  func log(_ task: Int) -> String { "\(folder)/\(task).log" }
  var script: String { "\(folder)/script" }

  /// The last lines that a task's node wrote outside of any stage.
  func lastWords(_ task: Int) -> String {
    let text = String(decoding: FileBytes.read(log(task))?.suffix(2000) ?? [], as: UTF8.self)
    return text.split(separator: "\n").suffix(5).joined(separator: "\n")
  }
}

/// What one task of a batch is to do, in this order.
struct TaskDocument: Codable, Sendable {
  var assignments: [Assignment]
}

/// What a node reports, a JSON object per line.
enum TaskEvent: Codable, Sendable {
  /// It has begun, or begun again.
  case began(host: String)
  case started(Digest)
  case progress(Digest, Double, String)
  /// The action's record is in the store.
  case recorded(Digest)
  case failed(Digest, FailureCause, String, help: String?, log: [String])
  /// An object that the action takes isn't there.
  case missing(Digest, object: Digest)
  /// Every action is over.
  case ended
  /// A signal ended it: it is not its fault that actions are left.
  case stopped

  /// The action that is over by it.
  var settles: Digest? {
    switch self {
    case .recorded(let key), .failed(let key, _, _, _, _), .missing(let key, _): key
    case .began, .started, .progress, .ended, .stopped: nil
    }
  }
}

/// Reads a growing file of events, whole lines only.
struct EventReader {
  private let path: String
  private var offset = 0

  init(_ path: String) { self.path = path }

  /// What was added since the last call. Lines that are no event (a torn one after a node's crash) are passed over.
  mutating func next() -> [TaskEvent] {
    // Opened anew each time: a network file system shows what others wrote at opening.
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return [] }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = pread(file, &buffer, buffer.count, offset + bytes.count)
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    guard let end = bytes.lastIndex(of: 0x0A) else { return [] }
    offset += end + 1
    return bytes[..<end].split(separator: 0x0A).compactMap {
      try? JSONDecoder().decode(TaskEvent.self, from: Data($0))
    }
  }
}

extension Store {
  /// Where a cluster's task that runs an action is noted.
  private func notePath(_ key: Digest) -> String { workFolder(key) + "/task" }

  /// Notes that task `task` of `batch` is to run the action.
  func note(_ key: Digest, _ batch: Batch, task: Int) throws(StoreError) {
    try publish(Array("\(batch.id) \(task)".utf8), at: notePath(key))
  }

  /// The task that was to run the action, if it was ever noted and the action isn't over.
  func noted(_ key: Digest) -> (batch: Batch, task: Int)? {
    guard let bytes = FileBytes.read(notePath(key)) else { return nil }
    let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
    guard words.count == 2, let task = Int(words[1]), task >= 0,
      words[0].allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })
    else { return nil }
    return (Batch(self, id: String(words[0])), task)
  }

  func removeNote(_ key: Digest) { unlink(notePath(key)) }

  /// Whether the action is over and all that it gave is there.
  func isComplete(_ key: Digest) -> Bool {
    record(key).map { $0.objects.allSatisfy(contains) } ?? false
  }
}
