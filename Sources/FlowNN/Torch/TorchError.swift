/// Why a torch archive was refused. Each text says where, what was found and what was expected.
public enum TorchError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The file can't be read.
  case unreadable(String)
  /// The file lost bytes while it was read.
  case cutShort
  /// The file is no torch archive, or its zip structure is not sound.
  case archive(String)
  /// An instruction of `data.pkl` that isn't carried out. `offset` is its first byte.
  case instruction(name: String, offset: Int, problem: String)
  /// A tensor can't be given.
  case tensor(String, problem: String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let why): why
    case .cutShort: "the file was cut short while it was read"
    case .archive(let why): why
    case .instruction(let name, let offset, let problem): "data.pkl, \(name) at byte \(offset): \(problem)"
    case .tensor(let name, let problem): "tensor '\(name)': \(problem)"
    }
  }
}
