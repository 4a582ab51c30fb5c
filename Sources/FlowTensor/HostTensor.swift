/// Numbers in host memory, row-major.
public struct HostTensor: Sendable, Hashable {
  /// The elements.
  public enum Values: Sendable, Hashable {
    case float32([Float])
    case int32([Int32])
  }
  /// Its dimensions, outermost first.
  public let shape: [Int]
  /// Its elements.
  public let values: Values

  /// Floats of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: [Float], _ shape: [Int]) throws(TensorError) {
    try HostTensor.check(values.count, shape)
    self.shape = shape
    self.values = .float32(values)
  }

  /// Integers of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: [Int32], _ shape: [Int]) throws(TensorError) {
    try HostTensor.check(values.count, shape)
    self.shape = shape
    self.values = .int32(values)
  }

  private static func check(_ count: Int, _ shape: [Int]) throws(TensorError) {
    guard shape.isValid, count == shape.elements else {
      throw .shape(op: "tensor", shapes: [shape], expected: "\(count) values are given")
    }
  }

  /// The elements as floats.
  public var floats: [Float] {
    switch values {
    case .float32(let values): values
    case .int32(let values): values.map(Float.init)
    }
  }
}
