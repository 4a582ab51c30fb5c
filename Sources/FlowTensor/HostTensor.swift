/// Numbers in host memory, row-major.
public struct HostTensor: Sendable, Hashable {
  /// The elements.
  public enum Values: Sendable, Hashable {
    case float32([Float])
    /// Their bits.
    case bfloat16([UInt16])
    /// Their bits.
    case float16([UInt16])
    case int32([Int32])
    case bool([Bool])
  }
  /// Its dimensions, outermost first.
  public let shape: [Int]
  /// Its elements.
  public let values: Values

  /// Elements of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: Values, _ shape: [Int]) throws(TensorError) {
    guard shape.isValid, values.count == shape.elements else {
      throw .shape(op: "tensor", shapes: [shape], expected: "\(values.count) values are given")
    }
    self.shape = shape
    self.values = values
  }

  /// Floats of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: [Float], _ shape: [Int]) throws(TensorError) {
    try self.init(.float32(values), shape)
  }

  /// Integers of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: [Int32], _ shape: [Int]) throws(TensorError) { try self.init(.int32(values), shape) }

  /// A mask of that shape.
  /// - Throws: `TensorError.shape` when there are more or fewer.
  public init(_ values: [Bool], _ shape: [Int]) throws(TensorError) { try self.init(.bool(values), shape) }

  /// The type of its elements.
  public var dtype: DType { values.dtype }

  /// The elements as floats.
  public var floats: [Float] {
    switch values {
    case .float32(let values): values
    case .bfloat16(let values): values.map(Half.bfloat)
    case .float16(let values): values.map(Half.half)
    case .int32(let values): values.map(Float.init)
    case .bool(let values): values.map { $0 ? 1 : 0 }
    }
  }

  /// The elements as another type keeps them (`DType.rounded`).
  public func cast(to type: DType) -> HostTensor {
    guard type != dtype else { return self }
    let values: Values =
      switch type {
      case .float32: .float32(floats)
      case .bfloat16: .bfloat16(floats.map(Half.bfloat))
      case .float16: .float16(floats.map(Half.half))
      case .int32: .int32(floats.map { Int32(DType.int32.rounded(Double($0))) })
      case .bool: .bool(floats.map { $0 != 0 })
      }
    return HostTensor(unchecked: values, shape)
  }

  private init(unchecked values: Values, _ shape: [Int]) {
    self.values = values
    self.shape = shape
  }

  /// The elements' bytes, in this machine's order.
  public func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    func pass(_ bytes: UnsafeRawBufferPointer) -> Result<R, E> {
      do throws(E) { return .success(try body(bytes)) } catch { return .failure(error) }
    }
    let result: Result<R, E> =
      switch values {
      case .float32(let values): values.withUnsafeBytes(pass)
      case .bfloat16(let values), .float16(let values): values.withUnsafeBytes(pass)
      case .int32(let values): values.withUnsafeBytes(pass)
      case .bool(let values): values.withUnsafeBytes(pass)
      }
    return try result.get()
  }
}

extension HostTensor {
  /// Whether its elements are those of `other` because they are the same memory.
  func isSameMemory(as other: HostTensor) -> Bool {
    dtype == other.dtype && shape == other.shape
      && withBytes { mine in
        other.withBytes { mine.baseAddress == $0.baseAddress && mine.count == $0.count }
      }
  }
}

extension HostTensor.Values {
  /// The number of elements.
  public var count: Int {
    switch self {
    case .float32(let values): values.count
    case .bfloat16(let values), .float16(let values): values.count
    case .int32(let values): values.count
    case .bool(let values): values.count
    }
  }

  /// Their type.
  public var dtype: DType {
    switch self {
    case .float32: .float32
    case .bfloat16: .bfloat16
    case .float16: .float16
    case .int32: .int32
    case .bool: .bool
    }
  }

  /// `count` elements of a type, which `fill` writes as bytes.
  init(
    _ type: DType, count: Int, fill: (UnsafeMutableRawBufferPointer) throws(TensorError) -> Void
  ) throws(TensorError) {
    func array<T>(_: T.Type) throws(TensorError) -> [T] {
      var problem: TensorError?
      let values = [T](unsafeUninitializedCapacity: count) { buffer, initialized in
        do throws(TensorError) {
          try fill(UnsafeMutableRawBufferPointer(buffer))
          initialized = count
        } catch { problem = error }
      }
      if let problem { throw problem }
      return values
    }
    self =
      switch type {
      case .float32: .float32(try array(Float.self))
      case .bfloat16: .bfloat16(try array(UInt16.self))
      case .float16: .float16(try array(UInt16.self))
      case .int32: .int32(try array(Int32.self))
      // A byte that is neither 0 nor 1 is no Bool.
      case .bool: .bool(try array(UInt8.self).map { $0 != 0 })
      }
  }
}
