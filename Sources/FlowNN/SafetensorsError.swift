/// Why a safetensors file was refused. The case is the reason; its text says where.
public enum SafetensorsError: Error, Sendable, Hashable, CustomStringConvertible {
  case unreadable(String)
  case truncated
  case headerTooLarge(Int)
  case invalidHeader(String)
  case duplicateName(String)
  case unknownType(tensor: String, type: String)
  case overflow(tensor: String)
  case sizeMismatch(tensor: String, expected: Int, found: Int)
  case notContiguous(tensor: String)
  case notCovered(expected: Int, found: Int)
  case noTensor(String)
  case cutShort

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let path): "can't read \(path)"
    case .truncated: "the file ends before its header does"
    case .headerTooLarge(let size): "a header of \(size) bytes is over the limit of 100,000,000"
    case .invalidHeader(let why): "the header is not valid: \(why)"
    case .duplicateName(let name): "the name '\(name)' occurs twice"
    case .unknownType(let tensor, let type): "tensor '\(tensor)' has the unknown type '\(type)'"
    case .overflow(let tensor): "the size of tensor '\(tensor)' overflows"
    case .sizeMismatch(let tensor, let expected, let found):
      "tensor '\(tensor)' needs \(expected) bytes by its shape and has \(found)"
    case .notContiguous(let tensor): "tensor '\(tensor)' overlaps another or leaves a hole before it"
    case .notCovered(let expected, let found): "the tensors end at byte \(expected), the file at \(found)"
    case .noTensor(let name): "there is no tensor '\(name)'"
    case .cutShort: "the file was cut short while it was read"
    }
  }
}
