import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStore
import Foundation

struct DiffCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Says what differs between two commits: parameters, what reran, items, metrics.",
    discussion: """
      From the lock files in git; without a second revision the lock file as it lies here is compared. Where the cache still
      has what each item measured, a metric's difference comes with its 95 % interval (Student's t; paired by item where
      both sides have the same items).
      """)
  @Argument(
    help: ArgumentHelp(
      "The pipeline's file (or --pipeline), and one or two revisions of git.",
      valueName: "[PIPELINE] REV [REV]"))
  var words: [String] = []
  @OptionGroup var shared: SharedOptions

  func validate() throws {
    if !(1...2).contains(revisions.count) {
      throw ValidationError("give one revision of git or two, such as HEAD~1")
    }
  }

  private var revisions: [String] { words.filter { !$0.hasSuffix(".yaml") } }

  func run() async throws {
    try await reporting(json: shared.json, noColor: shared.noColor) {
      let file = try words.first { $0.hasSuffix(".yaml") } ?? shared.file ?? Project.onlyPipeline()
      let lock = Project.lockFile(file)
      let before = LockDocument(try Git.show(revisions[0], lock))
      let after = LockDocument(try revisions.count > 1 ? Git.show(revisions[1], lock) : FileText.read(lock))
      let changes = after.changes(from: before)
      let intervals = try intervals(changes, before, after, Project.root(from: file))
      if shared.json { return Terminal.out(document(changes, intervals).pretty) }
      if changes.isEmpty { return Terminal.out("nothing differs") }
      for change in changes {
        Terminal.out(change.headline)
        for entry in change.entries {
          var line = "    \(entry.text)"
          if entry.section == "metrics", change.kind == .changed {
            line += intervals[change.stage]?[entry.key].map { "  \($0.text)" } ?? ""
          }
          Terminal.out(line)
        }
      }
      let sure = intervals.values.reduce(0) { $0 + $1.count }
      let all = changes.filter { $0.kind == .changed }.flatMap(\.entries).count { $0.section == "metrics" }
      if all > sure {
        Terminal.error(
          "\(all - sure) of \(all) metric differences are of means alone: one item, or no longer in this cache"
        )
      }
    }
  }

  /// By stage and metric.
  private func intervals(
    _ changes: [LockDocument.Change], _ before: LockDocument, _ after: LockDocument, _ root: String
  ) throws -> [String: [String: MetricInterval]] {
    let metrics = ItemMetrics(try Project.store(root), pipeline: after.pipeline)
    var result: [String: [String: MetricInterval]] = [:]
    for change in changes where change.kind == .changed {
      guard let a = before.stages[change.stage], let b = after.stages[change.stage],
        let old = metrics.values(change.stage, a), let new = metrics.values(change.stage, b)
      else { continue }
      for entry in change.entries where entry.section == "metrics" {
        result[change.stage, default: [:]][entry.key] = MetricInterval(
          old: old[entry.key] ?? [:], new: new[entry.key] ?? [:])
      }
    }
    return result
  }

  private func document(_ changes: [LockDocument.Change], _ intervals: [String: [String: MetricInterval]])
    -> JSON
  {
    .object([
      "schema": "flow.diff/1",
      "stages": .array(
        changes.map { change in
          .object([
            "name": .string(change.stage), "change": .string(change.kind.rawValue),
            "reran_because": .array(change.causes.map { .string($0) }),
            "entries": .array(
              change.entries.map { entry in
                var members: [String: JSON] = [
                  "section": .string(entry.section), "key": .string(entry.key),
                  "old": entry.old.map { .string($0) } ?? .null,
                  "new": entry.new.map { .string($0) } ?? .null,
                ]
                if entry.section == "metrics", let interval = intervals[change.stage]?[entry.key] {
                  members["interval"] = [
                    "confidence": 0.95, "low": .double(interval.low), "high": .double(interval.high),
                    "items": .int(interval.items), "paired": .bool(interval.isPaired),
                  ]
                }
                return .object(members)
              }),
          ])
        }),
    ])
  }
}

extension MetricInterval {
  /// For a reader.
  var text: String {
    let over = isPaired ? "\(items) items, paired" : "\(oldItems) and \(items) items"
    return String(format: "95 %% [%+.4g, %+.4g]", low, high) + " over \(over)"
  }
}

/// What git is asked.
enum Git {
  /// A file as it was at a revision; the path is of the working folder.
  /// - Throws: `Diagnostics` when git doesn't have it.
  static func show(_ revision: String, _ path: String) throws -> String {
    // The revision is one argument and can't be an option.
    let place = path.hasPrefix("/") ? path : "./" + path
    let (status, out, error) = try run(["show", "--end-of-options", "\(revision):\(place)"])
    guard status == 0 else {
      throw Diagnostics([
        Diagnostic(
          code: "E034", "git has no '\(path)' at '\(revision)'",
          notes: [error.trimmingCharacters(in: .whitespacesAndNewlines)],
          help: "commit the lock file beside the pipeline; 'git log -- \(path)' lists its revisions")
      ])
    }
    return out
  }

  /// Runs git; its exit status and what it said.
  static func run(_ arguments: [String]) throws -> (status: Int32, out: String, error: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["git"] + arguments
    let (out, error) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = error
    try process.run()
    let data = out.fileHandleForReading.readDataToEndOfFile()
    let message = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self), message)
  }
}
