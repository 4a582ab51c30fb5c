import FlowCore
import FlowEngine
import Foundation
import Synchronization

/// `--events FILE`: what happens in a run as it happens, a JSON object a line (`flow.events/1`), for programs that follow it.
final class EventLog: Sendable {
  private let file: Mutex<FileHandle>
  private let begin = Date()

  /// Appends to the file at `path`, made if need be; `-` is standard error.
  /// - Throws: `Diagnostics` when it can't be written.
  init(_ path: String) throws {
    if path == "-" {
      file = Mutex(FileHandle.standardError)
      return
    }
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw Diagnostics([
        Diagnostic(
          code: "E056", "can't write events to '\(path)': \(String(cString: strerror(errno)))",
          help: "name a file in a folder that is there, or '-' for standard error")
      ])
    }
    file = Mutex(FileHandle(fileDescriptor: descriptor, closeOnDealloc: true))
  }

  func started(_ pipeline: String, stages: [String]) {
    write("run-started", ["pipeline": .string(pipeline), "stages": .array(stages.map { .string($0) })])
  }

  func finished(_ report: RunReport) {
    let state = report.interrupted ? "interrupted" : report.failed ? "failed" : "done"
    write(
      "run-finished", ["state": .string(state), "lock_file": report.lockFile.map { .string($0) } ?? .null])
  }

  func handle(_ event: RunEvent) {
    switch event {
    case .started(let stage, let items, let reasons):
      write(
        "stage-started",
        [
          "stage": .string(stage), "items": .int(items),
          "reasons": .array(reasons.map { .string($0.description) }),
        ])
    case .progress(let stage, let item, let fraction, let note):
      write(
        "progress",
        [
          "stage": .string(stage), "item": .string(item),
          "fraction": .double(fraction.isFinite ? fraction : 0),
          "note": .string(note),
        ])
    case .item(let stage, let item, let reason):
      write(
        "item-finished",
        ["stage": .string(stage), "item": .string(item), "set_aside": reason.map { .string($0) } ?? .null])
    case .retry(let stage, let item, let reason):
      write("retry", ["stage": .string(stage), "item": .string(item), "reason": .string(reason)])
    case .warning(let stage, let message):
      write("warning", ["stage": .string(stage), "message": .string(message)])
    case .restoring(let stage, let item):
      write("restoring", ["stage": .string(stage), "item": .string(item)])
    case .finished(let report): write("stage-finished", ["report": report.document])
    }
  }

  private func write(_ name: String, _ members: [String: JSON]) {
    var line = members
    line["schema"] = "flow.events/1"
    line["event"] = .string(name)
    line["at"] = .double((Date().timeIntervalSince(begin) * 1000).rounded() / 1000)
    let text = JSON.object(line).canonical + "\n"
    // Whoever followed may have gone; the run goes on.
    file.withLock { try? $0.write(contentsOf: Data(text.utf8)) }
  }
}
