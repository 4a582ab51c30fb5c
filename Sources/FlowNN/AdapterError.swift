/// Why an adapter was refused. Each text says what was found and what was expected.
public enum AdapterError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A file of the folder can't be read.
  case unreadable(String)
  /// A setting in `adapter_config.json` that can't be honoured.
  case setting(String, found: String, expected: String)
  /// A target that is no linear layer of the model.
  case noLayer(target: String, known: [String])
  /// Keys that should be there.
  case missing(keys: [String])
  /// Keys that belong to no layer of the base.
  case unexpected(keys: [String])
  /// A tensor that doesn't fit its layer.
  case shape(key: String, expected: [Int], found: [Int])
  /// It was trained on another base.
  case otherBase(expected: String, found: String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let why): return why
    case .setting(let name, let found, let expected):
      return "adapter_config.json: '\(name)' is \(found), but \(expected)"
    case .noLayer(let target, let known):
      return
        "the model has no linear layer '\(target)'; its layers' names are \(known.joined(separator: ", "))"
    case .missing(let keys): return "the adapter lacks \(AdapterError.list(keys))"
    case .unexpected(let keys):
      return "the base has no linear layers for \(AdapterError.list(keys)): the adapter is for another model"
    case .shape(let key, let expected, let found):
      return
        "'\(key)' has shape \(found), but the base needs \(expected): the adapter is for a model of other sizes"
    case .otherBase(let expected, let found):
      return "the adapter was trained on '\(found)', but the base is '\(expected)'"
    }
  }

  private static func list(_ keys: [String]) -> String {
    let shown = keys.sorted().prefix(3).map { "'\($0)'" }.joined(separator: ", ")
    return keys.count > 3 ? "\(shown) and \(keys.count - 3) more" : shown
  }
}
