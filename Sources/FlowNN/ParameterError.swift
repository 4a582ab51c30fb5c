/// Why weights are not those of a model. Each text names a key, what was found and what was expected.
public enum ParameterError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A tensor of other sizes.
  case shape(String, expected: [Int], found: [Int])
  /// Keys that should be there.
  case missing([String])
  /// Keys that the model has no parameters for.
  case unexpected([String])

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .shape(let key, let expected, let found):
      "'\(key)' has shape \(found), but the model's is \(expected): the weights are of a model of other sizes; take sizes and weights from the same place"
    case .missing(let keys):
      "the weights lack \(ParameterError.list(keys)): a shard is missing, or they are of another model"
    case .unexpected(let keys):
      "the model has no \(ParameterError.list(keys)): the weights are of another model; take sizes and weights from the same place"
    }
  }

  private static func list(_ keys: [String]) -> String {
    let shown = keys.prefix(3).map { "'\($0)'" }.joined(separator: ", ")
    return keys.count > 3 ? "\(shown) and \(keys.count - 3) more" : shown
  }
}
