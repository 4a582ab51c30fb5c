/// Parameters by name, in a device's memory; several programs can share one store.
public final class ParameterStore {
  /// The device.
  public let backend: any Backend
  var buffers: [String: (slot: Slot, shape: [Int], dtype: DType)] = [:]

  /// The largest memory of intermediate values that a program has now.
  private weak var shared: (any DeviceBuffer)?

  /// An empty store.
  public init(_ backend: any Backend) { self.backend = backend }

  /// The names, sorted.
  public var names: [String] { buffers.keys.sorted() }

  /// The shape of the parameter `name`, if it is there.
  public func shape(_ name: String) -> [Int]? { buffers[name]?.shape }

  /// The element type of the parameter `name`, if it is there.
  public func dtype(_ name: String) -> DType? { buffers[name]?.dtype }

  /// Sets the parameter `name`, making it, of the tensor's type, if need be; one that is there keeps its type.
  /// - Throws: `TensorError` when it has another shape or memory runs out.
  public func set(_ name: String, _ tensor: HostTensor) throws {
    let tensor = tensor.cast(to: buffers[name]?.dtype ?? (tensor.dtype == .int32 ? .float32 : tensor.dtype))
    try tensor.withBytes { try set(name, tensor.shape, tensor.dtype, $0) }
  }

  /// Sets the parameter `name` from memory that holds its elements, row-major, making it if need be.
  /// - Throws: `TensorError` when it has another shape or type, their number doesn't fit it, or memory runs out.
  public func set(_ name: String, _ shape: [Int], _ dtype: DType, _ bytes: UnsafeRawBufferPointer) throws {
    guard shape.isValid, bytes.count == shape.elements * dtype.size else {
      throw TensorError.parameter(
        "parameter '\(name)' of shape \(shape) was given \(bytes.count / dtype.size) values")
    }
    if let known = buffers[name] {
      guard known.shape == shape else {
        throw TensorError.parameter("parameter '\(name)' has shape \(known.shape), not \(shape)")
      }
      guard known.dtype == dtype else {
        throw TensorError.parameter(
          "parameter '\(name)' is \(known.dtype.rawValue), not \(dtype.rawValue)")
      }
      guard known.slot.buffer.keeper == nil else {
        throw TensorError.parameter("parameter '\(name)' is read from where it lies, and can't be set")
      }
      try known.slot.buffer.write(bytes, at: known.slot.offset)
      return
    }
    let buffer = try backend.makeBuffer(dtype.words(shape.elements), for: "parameter '\(name)'")
    try buffer.write(bytes, at: 0)
    buffers[name] = (Slot(buffer: buffer, offset: 0), shape, dtype)
  }

  /// Takes the parameter `name` from where it lies, if the device can, or else a copy; it can be read only then.
  /// - Throws: `TensorError` as `set`, or when it is there already.
  public func borrow(_ name: String, _ shape: [Int], _ dtype: DType, _ memory: BorrowedMemory) throws {
    guard buffers[name] == nil else { throw TensorError.parameter("parameter '\(name)' is there already") }
    guard shape.isValid, memory.bytes.count == shape.elements * dtype.size, !memory.bytes.isEmpty,
      Int(bitPattern: memory.bytes.baseAddress) % dtype.size == 0, let buffer = backend.borrow(memory)
    else { return try set(name, shape, dtype, memory.bytes) }
    buffers[name] = (Slot(buffer: buffer, offset: 0), shape, dtype)
  }

  /// The parameter `name`.
  /// - Throws: `TensorError` when there is none.
  public func get(_ name: String) throws -> HostTensor {
    let (slot, shape, dtype) = try slot(name)
    return try slot.buffer.read(shape, dtype, at: slot.offset)
  }

  /// Memory for the intermediate values of a program: those of a store run one after the other and need nothing of what the last
  /// run left, so that a smaller one works in a larger one's.
  func arena(_ count: Int, for purpose: @autoclosure () -> String) throws -> any DeviceBuffer {
    if let shared, shared.count >= count { return shared }
    let arena = try backend.makeBuffer(count, for: purpose())
    shared = arena
    return arena
  }

  func slot(_ name: String) throws -> (slot: Slot, shape: [Int], dtype: DType) {
    guard let known = buffers[name] else { throw TensorError.parameter("no parameter '\(name)'") }
    return known
  }
}
