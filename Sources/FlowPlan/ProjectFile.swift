public import FlowCore
import Foundation

/// `flow.yaml` at the root of a project: settings that are the project's, not a pipeline's. It may be missing.
public struct ProjectFile: Sendable, Hashable {
  /// Its name.
  public static let name = "flow.yaml"
  /// Where `flow cache push` and `pull` go, as rclone takes it; a folder is of the project's root.
  public var remote: String?
  /// Where that stands.
  public var remotePlace: SourceLocation?

  /// Settings for `--on slurm`, as `--slurm` takes them: `partition=gpu`.
  public var slurm: [String] = []
  /// The names of these settings.
  public static let slurmNames = [
    "partition", "account", "qos", "constraint", "args", "task-seconds", "tasks", "at-once", "processors",
    "poll", "poll-most", "gather", "visibility", "losses", "patience",
  ]

  /// Nothing is set.
  public init() {}

  /// Reads the text of a project file.
  /// - Parameter file: its path, for messages.
  /// - Throws: `Diagnostics` with every mistake.
  public init(file: String, text: String) throws {
    var reader = DocumentReader(file: file, text: text)
    for (key, _, value) in reader.members(
      reader.root, of: "a project file", allowed: ["flow", "cache", "slurm"])
    {
      if key == "flow" {
        if value.json != .int(1) { reader.fail("E016", "a project file begins with 'flow: 1'", value) }
        continue
      }
      if key == "slurm" {
        for (name, _, field) in reader.members(value, of: "'slurm'", allowed: ProjectFile.slurmNames) {
          switch field.json {
          case .string(let text): slurm.append("\(name)=\(text)")
          case .int, .double: slurm.append("\(name)=\(field.json.canonical)")
          default: reader.fail("E014", "'\(name)' must be a text or a number", field)
          }
        }
        continue
      }
      for (_, _, field) in reader.members(value, of: "'cache'", allowed: ["remote"]) {
        remote = reader.text(field, "'remote'")
        remotePlace = reader.location(field)
        if let remote, !ProjectFile.isAddress(remote) {
          reader.fail(
            "E014", "'remote' can't be '\(remote)'", field,
            label: "a folder, or an rclone remote such as s3:bucket/flow")
        }
      }
    }
    if !reader.problems.isEmpty { throw Diagnostics(reader.problems) }
  }

  /// Whether a text can be an address; one that begins with '-' would be an option.
  public static func isAddress(_ text: String) -> Bool {
    !text.isEmpty && !text.hasPrefix("-") && !text.contains { $0.isNewline || $0 == "\0" }
  }

  /// The text of a project file with another remote in it; all else stays as it is.
  /// - Throws: `Diagnostics` when `text` has mistakes.
  public static func setting(remote: String, in text: String, file: String) throws -> String {
    let quoted = JSON.string(remote).canonical
    let old = try text.isEmpty ? ProjectFile() : ProjectFile(file: file, text: text)
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if lines.last == "" { lines.removeLast() }
    if let place = old.remotePlace, let found = lines[place.line - 1].range(of: "remote:") {
      let line = lines[place.line - 1]
      let comment = line[found.upperBound...].range(of: " #").map { String(line[$0.lowerBound...]) } ?? ""
      lines[place.line - 1] = line[..<found.upperBound] + " " + quoted + comment
    } else {
      if lines.isEmpty { lines = ["flow: 1"] }
      if let cache = lines.firstIndex(where: { $0.hasPrefix("cache:") }) {
        lines.insert("  remote: \(quoted)", at: cache + 1)
      } else {
        lines += ["cache:", "  remote: \(quoted)"]
      }
    }
    let result = lines.joined(separator: "\n") + "\n"
    guard let read = try? ProjectFile(file: file, text: result), read.remote == remote else {
      throw Diagnostics([
        Diagnostic(
          code: "E013", "\(file) is written in a way that can't be changed here",
          help: "write into it: cache: { remote: \(quoted) }")
      ])
    }
    return result
  }
}
