import FlowCore
import Foundation

/// Where text goes and how it may look.
struct Terminal: Sendable {
  /// Standard error is a terminal: progress may be redrawn.
  let isLive: Bool
  /// Colours may be used.
  let hasColour: Bool

  init(noColour: Bool = false) {
    let environment = ProcessInfo.processInfo.environment
    isLive = isatty(2) == 1 && environment["TERM"] != "dumb"
    hasColour = isLive && environment["NO_COLOR"].map { $0.isEmpty } ?? true && !noColour
  }

  func styled(_ text: String, _ code: String) -> String {
    hasColour ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
  }

  /// `text` filled with blanks to `width`, never cut.
  static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  /// Columns and rows of the terminal; 80 and 24 when it doesn't say.
  static func size() -> (columns: Int, rows: Int) {
    var size = winsize()
    guard ioctl(2, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return (80, 24) }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  /// As much of `text` as `columns` hold, on one line.
  static func cut(_ text: String, _ columns: Int) -> String {
    var (result, used) = ("", 0)
    for character in text where !character.isNewline && character != "\u{1B}" {
      used += width(character)
      if used > max(1, columns) { return result.dropLast() + "…" }
      result.append(character)
    }
    return result
  }

  /// `8 s`, `3 min`, `2 h 10 min`.
  static func duration(_ seconds: Double) -> String {
    let whole = Int(min(max(0, seconds.rounded()), 1e9))
    if whole < 120 { return "\(whole) s" }
    if whole < 7200 { return "\((whole + 30) / 60) min" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }

  static func out(_ text: String) { write(text + "\n", to: 1) }
  static func error(_ text: String) { write(text + "\n", to: 2) }

  /// Writes what can be written: a reader that has gone (`flow run | head`) ends nothing.
  static func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      if count < 0, errno == EAGAIN {
        usleep(1000)
        continue
      }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }

  /// A diagnostic in the form: what, where, the line with a caret, facts, the next step.
  func render(_ diagnostic: Diagnostic) -> String {
    let head = "\(diagnostic.severity.rawValue)[\(diagnostic.code)]"
    var lines = [styled(head, diagnostic.severity == .error ? "1;31" : "1;33") + ": " + diagnostic.message]
    if let place = diagnostic.location {
      lines.append(place.file == "--set" ? " --> --set" : " --> \(place.file):\(place.line):\(place.column)")
      if let source = diagnostic.sourceLine {
        let number = String(place.line)
        let margin = String(repeating: " ", count: number.count)
        lines.append("\(margin) |")
        lines.append("\(number) | \(source.replacingOccurrences(of: "\t", with: " "))")
        let before = source.prefix(max(0, place.column - 1)).reduce(0) { $0 + Terminal.width($1) }
        let caret = String(
          repeating: "^", count: max(1, min(place.length, max(1, source.count - place.column + 1))))
        lines.append(
          "\(margin) | \(String(repeating: " ", count: before))\(styled(caret, "1;31")) \(diagnostic.label ?? "")"
        )
      } else if let label = diagnostic.label {
        lines.append("  = \(label)")
      }
    } else if let label = diagnostic.label {
      lines.append("  = \(label)")
    }
    lines += diagnostic.notes.map { "  = \($0)" }
    if let help = diagnostic.help { lines.append("  = help: \(help)") }
    return lines.map { $0.replacing(#/ +$/#, with: "") }.joined(separator: "\n")
  }

  /// Columns of a character: two for wide East Asian ones, none for combining marks.
  private static func width(_ character: Character) -> Int {
    guard let scalar = character.unicodeScalars.first else { return 0 }
    switch scalar.value {
    case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
      0x1F300...0x1FAFF, 0x20000...0x3FFFD:
      return 2
    default: return 1
    }
  }
}
