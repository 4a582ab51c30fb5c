/// A place in a text file; lines and columns count from 1, columns in characters.
public struct SourceLocation: Hashable, Sendable, Codable {
  /// The file as the user named it.
  public var file: String
  /// The line, from 1.
  public var line: Int
  /// The column, from 1.
  public var column: Int
  /// How many characters the caret underlines.
  public var length: Int

  /// A place in `file`.
  public init(file: String, line: Int, column: Int, length: Int = 1) {
    self.file = file
    self.line = line
    self.column = column
    self.length = length
  }
}

/// One mistake, said so that it can be mended: what is wrong, where, what was expected, what to do next.
public struct Diagnostic: Error, Hashable, Sendable, Codable {
  /// How bad it is: an error stops the command, a warning doesn't.
  public enum Severity: String, Sendable, Codable { case error, warning }

  /// How bad it is.
  public var severity: Severity
  /// A stable code, such as `E011`, for tests and searches.
  public var code: String
  /// What is wrong, in one sentence.
  public var message: String
  /// Where, if it is in a file.
  public var location: SourceLocation?
  /// The source line at `location`, for the caret.
  public var sourceLine: String?
  /// What stands at the caret: what was expected, or "did you mean 'x'?".
  public var label: String?
  /// Further facts, a line each (printed after `=`).
  public var notes: [String]
  /// The exact next step (printed after `= help:`).
  public var help: String?

  /// A diagnostic.
  public init(
    _ severity: Severity = .error, code: String, _ message: String, at location: SourceLocation? = nil,
    sourceLine: String? = nil, label: String? = nil, notes: [String] = [], help: String? = nil
  ) {
    self.severity = severity
    self.code = code
    self.message = message
    self.location = location
    self.sourceLine = sourceLine
    self.label = label
    self.notes = notes
    self.help = help
  }
}

/// Several mistakes found in one go.
public struct Diagnostics: Error, Sendable {
  /// The mistakes, in the order of the source.
  public var all: [Diagnostic]

  /// The mistakes `all`.
  public init(_ all: [Diagnostic]) { self.all = all }
}
