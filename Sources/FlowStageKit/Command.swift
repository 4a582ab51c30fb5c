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
  /// Whether the kernel keeps the program to its inputs, its outputs, `reads` and the system's folders.
  public var sandbox = true
  /// Files and folders that it may read beside its inputs, such as a folder of models; no part of a key.
  public var reads: [String] = []

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
    var (text, rest) = (word[...].prefix(0), word[...])
    while let open = rest.firstIndex(of: "{") {
      guard let close = rest[open...].firstIndex(of: "}") else { break }
      if let mark = Mark(rest[rest.index(after: open)..<close]) {
        text = word[text.startIndex..<open]
        if !text.isEmpty { result.append(.text(String(text))) }
        result.append(.mark(mark))
        rest = rest[rest.index(after: close)...]
        text = rest.prefix(0)
      } else {
        rest = rest[rest.index(after: open)...]
      }
    }
    if text.startIndex < word.endIndex { result.append(.text(String(word[text.startIndex...]))) }
    return result
  }
}

extension CommandTemplate.Mark {
  /// What stands between the braces; `nil` when it is no mark.
  fileprivate init?(_ text: Substring) {
    if text == "threads" {
      self = .threads
      return
    }
    if text == "metrics" {
      self = .metrics
      return
    }
    guard let dot = text.firstIndex(of: ".") else { return nil }
    let rest = text[text.index(after: dot)...]
    let slash = rest.firstIndex(of: "/")
    let name = rest[..<(slash ?? rest.endIndex)]
    guard !name.isEmpty, name.utf8.allSatisfy(CommandTemplate.Mark.isNameByte) else { return nil }
    let file = slash.map { rest[rest.index(after: $0)...] }
    switch text[..<dot] {
    case "in":
      if let file, file.isEmpty || file.contains("/") || file.contains("{") { return nil }
      self = .input(port: String(name), file: file.map { String($0) })
    case "out" where file == nil: self = .output(port: String(name))
    case "params" where file == nil: self = .parameter(String(name))
    default: return nil
    }
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    (byte >= 48 && byte <= 57) || (byte | 32 >= UInt8(ascii: "a") && byte | 32 <= UInt8(ascii: "z"))
      || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
  }
}
