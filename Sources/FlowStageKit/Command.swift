/// The command line of a stage that runs a program: `run: command` in its declaration.
///
/// Words may hold `{in.PORT}` (the folder of an input), `{in.PORT/NAME}` (a file in it), `{in.PORT/*}` (its only file),
/// `{out.PORT}` (an empty folder to be filled), `{params.NAME}`, `{threads}` and `{metrics}` (where a JSON object of
/// numbers may be written). Each word stays one argument whatever it is given; no shell reads it.
public struct CommandTemplate: Sendable, Hashable, Codable {
  /// The program and its arguments; with `shell`, one text for `/bin/sh -c`, in which nothing is substituted: values
  /// come as `$FLOW_IN_PORT`, `$FLOW_OUT_PORT`, `$FLOW_PARAM_NAME`, `$FLOW_THREADS`, `$FLOW_METRICS`.
  public var words: [String]
  /// Whether a shell reads it.
  public var shell: Bool
  /// Variables beside `PATH`, `HOME`, `TMPDIR` and `LANG`; values may hold the same marks as words.
  public var environment: [String: String]

  /// A command.
  public init(words: [String], shell: Bool = false, environment: [String: String] = [:]) {
    self.words = words
    self.shell = shell
    self.environment = environment
  }

  /// A mark in a word.
  public enum Mark: Sendable, Hashable {
    case input(port: String, file: String?)
    case output(port: String)
    case parameter(String)
    case threads
    case metrics
  }

  /// A word in pieces: text and marks in turn.
  public enum Piece: Sendable, Hashable {
    case text(String)
    case mark(Mark)
  }

  /// The pieces of `word`. Braces that form no mark are text.
  public static func pieces(_ word: String) -> [Piece] {
    var result: [Piece] = []
    var rest = word[...]
    func add(_ text: Substring) { if !text.isEmpty { result.append(.text(String(text))) } }
    while let match = rest.firstMatch(
      of: #/\{(?:(in|out|params)\.([A-Za-z0-9_\-]+)(?:/([^{}/]+))?|(threads|metrics))\}/#)
    {
      add(rest[..<match.range.lowerBound])
      let (kind, name, file) = (match.1 ?? "", String(match.2 ?? ""), match.3.map(String.init))
      switch (kind, match.4) {
      case ("in", _): result.append(.mark(.input(port: name, file: file)))
      case ("out", _): result.append(.mark(.output(port: name)))
      case ("params", _): result.append(.mark(.parameter(name)))
      case (_, "threads"?): result.append(.mark(.threads))
      default: result.append(.mark(.metrics))
      }
      rest = rest[match.range.upperBound...]
    }
    add(rest)
    return result
  }
}
