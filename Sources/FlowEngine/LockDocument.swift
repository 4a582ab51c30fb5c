import FlowCore

/// A lock file as read back: what `flow diff` compares.
public struct LockDocument: Sendable, Hashable {
  /// One stage's block: sections (`params`, `inputs`, `outputs`, `metrics`, `quarantined`) of lines by their key.
  public struct Stage: Sendable, Hashable {
    /// The declared stage and its version, such as `f0@1`.
    public var stage = ""
    /// The sections by name.
    public var sections: [String: [String: String]] = [:]
  }
  /// The stages by name.
  public var stages: [String: Stage] = [:]
  /// The pipeline's name.
  public var pipeline = ""

  /// Reads the text of a lock file. Lines it doesn't know are left out.
  public init(_ text: String) {
    var (name, section) = ("", "")
    for line in text.split(whereSeparator: \.isNewline) {
      let indent = line.prefix { $0 == " " }.count
      let body = line.dropFirst(indent)
      switch indent {
      case 0 where body.hasPrefix("pipeline: "): pipeline = String(body.dropFirst(10))
      case 2 where body.hasSuffix(":"):
        name = String(body.dropLast())
        stages[name] = Stage()
      case 4 where body.hasPrefix("stage: "): stages[name]?.stage = String(body.dropFirst(7))
      case 4 where body.hasPrefix("unresolved: "): stages[name]?.stage = "unresolved"
      case 4 where body.hasSuffix(":"): section = String(body.dropLast())
      case 6:
        guard let colon = body.firstRange(of: ": ") else { continue }
        stages[name]?.sections[section, default: [:]][String(body[..<colon.lowerBound])] =
          String(body[colon.upperBound...])
      default: continue
      }
    }
  }

  /// What happened to one stage from an old lock file to a new one.
  public struct Change: Sendable, Hashable {
    /// What kind it is.
    public enum Kind: String, Sendable { case added, removed, changed }
    /// One line that differs; `old` is `nil` where it is new, `new` where it has gone.
    public struct Entry: Sendable, Hashable {
      /// `stage`, or the section's name.
      public var section: String
      /// The parameter, port, metric or item; empty for `stage`.
      public var key: String
      /// Before and after.
      public var old: String?, new: String?
    }
    /// The stage's name in the pipeline.
    public var stage: String
    /// What happened to it.
    public var kind: Kind
    /// What differs within it.
    public var entries: [Entry] = []

    /// Why it ran again: those of `version`, `params`, `inputs` that differ. None when only what it gave does.
    public var causes: [String] {
      guard kind == .changed else { return [] }
      return [("stage", "version"), ("params", "params"), ("inputs", "inputs")].compactMap { section, cause in
        entries.contains { $0.section == section } ? cause : nil
      }
    }

    /// The first line about it.
    public var headline: String {
      switch kind {
      case .added: "+ \(stage) (\(entries.first?.new ?? ""))"
      case .removed: "- \(stage)"
      case .changed: "~ \(stage)" + (causes.isEmpty ? "" : "  reran: other \(causes.joined(separator: ", "))")
      }
    }
  }

  /// What differs from `old`, in the order of the names.
  public func changes(from old: LockDocument) -> [Change] {
    Set(stages.keys).union(old.stages.keys).sorted().compactMap { name in
      guard let new = stages[name] else { return Change(stage: name, kind: .removed) }
      guard let before = old.stages[name] else {
        let entry = Change.Entry(section: "stage", key: "", old: nil, new: new.stage)
        return Change(stage: name, kind: .added, entries: [entry])
      }
      var change = Change(stage: name, kind: .changed)
      if new.stage != before.stage {
        change.entries.append(.init(section: "stage", key: "", old: before.stage, new: new.stage))
      }
      for section in ["params", "inputs", "outputs", "metrics", "quarantined"] {
        let (a, b) = (before.sections[section] ?? [:], new.sections[section] ?? [:])
        for key in Set(a.keys).union(b.keys).sorted() where a[key] != b[key] {
          change.entries.append(.init(section: section, key: key, old: a[key], new: b[key]))
        }
      }
      return change.entries.isEmpty ? nil : change
    }
  }
}

extension LockDocument.Change.Entry {
  /// For a reader.
  public var text: String {
    let (before, after) = (old ?? "-", new ?? "-")
    switch section {
    case "stage": return key.isEmpty && old == nil ? after : "stage  \(before) -> \(after)"
    case "inputs", "outputs":
      guard let a = count(old), let b = count(new) else { break }
      if a == b { return "\(section)  \(key): \(b) items, other contents" }
      return "\(section)  \(key): \(a) -> \(b) items (\(b > a ? "\(b - a) added" : "\(a - b) removed"))"
    case "quarantined": return "set aside  \(key): \(before) -> \(after)"
    case "metrics":
      guard let a = Double(before), let b = Double(after) else { break }
      let percent = a == 0 ? "" : " (\(b >= a ? "+" : "")\(((b - a) / abs(a) * 1000).rounded() / 10) %)"
      return "metrics  \(key): \(before) -> \(after)\(percent)"
    default: break
    }
    return "\(section)  \(key): \(before) -> \(after)"
  }

  private func count(_ text: String?) -> Int? {
    guard let text, let range = text.firstRange(of: "items: ") else { return nil }
    return Int(text[range.upperBound...].prefix { $0.isNumber })
  }
}
