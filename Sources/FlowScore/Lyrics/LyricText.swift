public import FlowCore

/// Lyrics as they are written: plain text, a line per line, with structure tags such as `[verse]` on lines of their own; or
/// LRC, where lines begin with the times at which they are sung, `[mm:ss.xx]`.
public struct LyricText: Sendable {
  /// A line.
  public struct Line: Sendable, Hashable {
    /// What it is.
    public enum Content: Sendable, Hashable {
      /// A structure tag, in lower case with its brackets.
      case tag(String)
      /// Words.
      case words(String)
    }
    /// What it is.
    public var content: Content
    /// Seconds at which it is sung, if the text says so.
    public var start: Double?
    /// Where its words begin.
    public var place: SourceLocation
    /// The line as it stands in the file.
    public var source: String
  }

  /// The lines that are sung or that structure the song, in the order of singing. Empty lines are left out.
  public private(set) var lines: [Line] = []
  /// What is wrong with it.
  public private(set) var problems: [Diagnostic] = []
  private var offset = 0.0
  private var repeats = false

  /// Reads `text`.
  /// - Parameters:
  ///   - file: its name, for messages.
  ///   - tags: the tags that the model knows, with brackets.
  public init(_ text: String, file: String, tags: some Collection<String>) {
    let rows = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, row) in rows.enumerated() {
      read(
        index == 0 && row.first == "\u{FEFF}" ? row.dropFirst() : row,
        at: SourceLocation(file: file, line: index + 1, column: 1), tags: Array(tags))
    }
    if offset != 0 { for i in lines.indices { lines[i].start = lines[i].start.map { max(0, $0 - offset) } } }
    if repeats { sort() }
  }

  private mutating func read(_ row: Substring, at place: SourceLocation, tags: [String]) {
    var rest = row
    func skipBlanks() { rest = rest.drop { $0.isWhitespace } }
    var times: [Double] = []
    skipBlanks()
    while rest.first == "[", let close = rest.firstIndex(of: "]") {
      let inside = rest[rest.index(after: rest.startIndex)..<close]
      if inside.first?.isWholeNumber ?? false, inside.contains(":") {
        guard let time = LyricText.seconds(inside) else {
          return fail(
            "E064", "'[\(inside)]' is no time", row, rest, inside.count + 2, place, "[mm:ss.xx] is expected",
            "write the seconds below 60, as in [01:30.50]")
        }
        times.append(time)
      } else if let colon = inside.firstIndex(of: ":"), inside[..<colon].allSatisfy(\.isLetter) {
        // What LRC says about the song; only the offset, in milliseconds, changes times.
        if inside[..<colon].lowercased() == "offset",
          let value = Double(inside[inside.index(after: colon)...].filter { !$0.isWhitespace })
        {
          offset = value / 1000
        }
        return
      } else {
        break
      }
      rest = rest[rest.index(after: close)...]
      skipBlanks()
    }
    let words = rest.replacing(#/<\d+:\d+(?:[.:]\d+)?>/#, with: "")
    let text = String(words.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    if text.isEmpty { return }
    var here = place
    here.column += row.distance(from: row.startIndex, to: rest.startIndex)
    here.length = max(1, text.count)
    var content = Line.Content.words(text)
    if text.first == "[", text.last == "]" {
      // "[Verse 2]" is a verse.
      let bare = text.dropFirst().dropLast().lowercased()
      let name =
        "[\(bare.reversed().drop { $0.isWholeNumber || $0.isWhitespace }.reversed().map(String.init).joined())]"
      guard tags.contains(name) else {
        return fail(
          "E063", "'\(text)' is no tag that the model knows", row, rest, text.count, place,
          "one of \(tags.sorted().joined(separator: " "))",
          "write the nearest of them, or put words that are sung without brackets")
      }
      content = .tag(name)
    }
    repeats = repeats || times.count > 1
    for start in times.isEmpty ? [nil] : times.map(Optional.init) {
      lines.append(Line(content: content, start: start, place: here, source: String(row)))
    }
  }

  private mutating func fail(
    _ code: String, _ message: String, _ row: Substring, _ rest: Substring, _ length: Int,
    _ place: SourceLocation, _ label: String, _ help: String
  ) {
    var here = place
    here.column += row.distance(from: row.startIndex, to: rest.startIndex)
    here.length = length
    problems.append(
      Diagnostic(code: code, message, at: here, sourceLine: String(row), label: label, help: help))
  }

  /// `mm:ss`, `mm:ss.xx`; `mm:ss:xx` is seen too.
  private static func seconds(_ text: Substring) -> Double? {
    guard let match = text.wholeMatch(of: #/(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?/#),
      let minutes = Double(match.1), let seconds = Double(match.2), seconds < 60
    else { return nil }
    return minutes * 60 + seconds + (match.3.flatMap { Double("0." + $0) } ?? 0)
  }

  /// By time; a line without one goes with the next that has one.
  private mutating func sort() {
    var next = Double.infinity
    var keys = [Double](repeating: next, count: lines.count)
    for i in lines.indices.reversed() {
      next = lines[i].start ?? next
      keys[i] = next
    }
    lines = lines.indices.sorted { (keys[$0], $0) < (keys[$1], $1) }.map { lines[$0] }
  }
}
