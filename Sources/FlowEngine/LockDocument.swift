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

  /// Reads the text of a lock file. Lines it doesn't know are left out.
  public init(_ text: String) {
    var (name, section) = ("", "")
    for line in text.split(whereSeparator: \.isNewline) {
      let indent = line.prefix { $0 == " " }.count
      let body = line.dropFirst(indent)
      switch indent {
      case 2 where body.hasSuffix(":"):
        name = String(body.dropLast())
        stages[name] = Stage()
      case 4 where body.hasPrefix("stage: "): stages[name]?.stage = String(body.dropFirst(7))
      case 4 where body.hasSuffix(":"): section = String(body.dropLast())
      case 6:
        guard let colon = body.firstRange(of: ": ") else { continue }
        stages[name]?.sections[section, default: [:]][String(body[..<colon.lowerBound])] =
          String(body[colon.upperBound...])
      default: continue
      }
    }
  }

  /// What differs from `old`, a line each, in the order of the names.
  public func differences(from old: LockDocument) -> [String] {
    var lines: [String] = []
    for name in Set(stages.keys).union(old.stages.keys).sorted() {
      guard let new = stages[name] else {
        lines.append("- \(name)")
        continue
      }
      guard let before = old.stages[name] else {
        lines.append("+ \(name) (\(new.stage))")
        continue
      }
      var changes: [String] = []
      if new.stage != before.stage { changes.append("stage  \(before.stage) -> \(new.stage)") }
      for section in ["params", "inputs", "outputs", "metrics", "quarantined"] {
        let (a, b) = (before.sections[section] ?? [:], new.sections[section] ?? [:])
        for key in Set(a.keys).union(b.keys).sorted() where a[key] != b[key] {
          changes.append(
            "\(section == "quarantined" ? "set aside" : section)  \(key): "
              + LockDocument.change(section, a[key], b[key]))
        }
      }
      if !changes.isEmpty { lines += ["~ \(name)"] + changes.map { "    \($0)" } }
    }
    return lines
  }

  private static func change(_ section: String, _ a: String?, _ b: String?) -> String {
    if section == "inputs" || section == "outputs" {
      func count(_ text: String?) -> Int? {
        guard let text, let range = text.firstRange(of: "items: ") else { return nil }
        return Int(text[range.upperBound...].prefix { $0.isNumber })
      }
      if let before = count(a), let after = count(b) {
        return before == after ? "\(after) items, other contents" : "\(before) -> \(after) items"
      }
    }
    let text = "\(a ?? "-") -> \(b ?? "-")"
    if section == "metrics", let x = a.flatMap(Double.init), let y = b.flatMap(Double.init), x != 0 {
      return text + " (\(y >= x ? "+" : "")\(LockDocument.rounded((y - x) / abs(x) * 100)) %)"
    }
    return text
  }

  private static func rounded(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
}
