/// What can go wrong in recording, planning and running programs. Each text says which op or value it is about, what was
/// given, what was expected, and in which module.
public enum TensorError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The shapes that an op was given do not fit it, or each other.
  case shape(op: String, shapes: [[Int]], expected: String, path: String = "")
  /// The element types that an op was given do not fit it.
  case dtype(op: String, found: [DType], expected: String, path: String = "")
  /// A setting of an op is out of its range, whatever the shapes.
  case argument(op: String, problem: String, path: String = "")
  /// A gradient that has no rule.
  case derivative(op: String, problem: String, path: String = "")
  /// The backend has no kernel for an op, or was given another device's memory.
  case unsupported(op: String, backend: String, path: String = "")
  /// The device can't be used, or is lost: what happened, and what to do.
  case device(String)
  /// Memory could not be had. `purpose` says for what.
  case outOfMemory(bytes: Int, purpose: String = "")
  /// A run was not given an input, or one of another shape or type.
  case input(String)
  /// A store lacks a parameter, or holds one of another shape.
  case parameter(String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .shape(let op, let shapes, let expected, let path):
      let list = shapes.map { "\($0)" }.joined(separator: ", ")
      return "\(op): \(expected), but \(shapes.count == 1 ? "the shape is" : "the shapes are") \(list)"
        + TensorError.place(path)
    case .dtype(let op, let found, let expected, let path):
      let list = found.map(\.rawValue).joined(separator: ", ")
      return "\(op): \(expected), but \(found.count == 1 ? "the type is" : "the types are") \(list)"
        + TensorError.place(path)
    case .argument(let op, let problem, let path), .derivative(let op, let problem, let path):
      return "\(op): \(problem)" + TensorError.place(path)
    case .unsupported(let op, let backend, let path):
      return "\(op): the \(backend) backend has no kernel for it" + TensorError.place(path)
    case .outOfMemory(let bytes, let purpose):
      let size = bytes < 1_048_576 ? "\(bytes) bytes" : "\(bytes / 1_048_576) MiB"
      return "out of memory: \(size) more were needed" + (purpose.isEmpty ? "" : " for \(purpose)")
    case .input(let text), .parameter(let text), .device(let text): return text
    }
  }

  private static func place(_ path: String) -> String { path.isEmpty ? "" : " (in \(path))" }

  /// The same error, in the module `path` unless it names one already.
  func at(_ path: String) -> TensorError {
    switch self {
    case .shape(let op, let shapes, let expected, ""):
      .shape(op: op, shapes: shapes, expected: expected, path: path)
    case .dtype(let op, let found, let expected, ""):
      .dtype(op: op, found: found, expected: expected, path: path)
    case .argument(let op, let problem, ""): .argument(op: op, problem: problem, path: path)
    case .derivative(let op, let problem, ""): .derivative(op: op, problem: problem, path: path)
    case .unsupported(let op, let backend, ""): .unsupported(op: op, backend: backend, path: path)
    default: self
    }
  }
}

extension Op {
  /// Throws an error about `shapes` unless `condition` holds.
  package func require(
    _ condition: Bool, _ shapes: [[Int]], _ expected: @autoclosure () -> String
  ) throws(TensorError) {
    if !condition { throw .shape(op: name, shapes: shapes, expected: expected()) }
  }

  /// Throws an error unless there are `count` inputs, each of at least one of the ranks.
  package func require(
    _ shapes: [[Int]], count: Int, ranks: ClosedRange<Int> = 0...Int.max
  ) throws(TensorError) {
    try require(shapes.count == count, shapes, "it takes \(count) input\(count == 1 ? "" : "s")")
    let wanted =
      ranks.lowerBound == ranks.upperBound
      ? "rank \(ranks.lowerBound)" : "a rank of at least \(ranks.lowerBound)"
    try require(shapes.allSatisfy { ranks.contains($0.count) }, shapes, "its inputs have \(wanted)")
  }

  /// Throws an error about the op's settings unless `condition` holds.
  package func require(_ condition: Bool, _ problem: @autoclosure () -> String) throws(TensorError) {
    if !condition { throw .argument(op: name, problem: problem()) }
  }
}
