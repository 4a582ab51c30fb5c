/// Memory of a device, addressed in 4-byte words; a value of a narrower type begins at a word.
public protocol DeviceBuffer: AnyObject {
  /// The number of words.
  var count: Int { get }
  /// Copies `bytes` to the words from `offset`.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int)
  /// Fills `bytes` from the words from `offset`.
  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int)
}

extension DeviceBuffer {
  /// Copies the elements of `tensor` to the words from `offset`.
  func write(_ tensor: HostTensor, at offset: Int) { tensor.withBytes { write($0, at: offset) } }

  /// The elements of a tensor from the word `offset`.
  func read(_ shape: [Int], _ type: DType, at offset: Int) throws(TensorError) -> HostTensor {
    try HostTensor(HostTensor.Values(type, count: shape.elements) { read($0, at: offset) }, shape)
  }
}

/// A place in a device's memory.
public struct Slot {
  /// The memory.
  public let buffer: any DeviceBuffer
  /// The first word.
  public let offset: Int
}

/// One kernel's work, all addresses known.
public struct Step {
  /// What to compute.
  public let op: any Op
  /// Where the inputs lie, and what they are.
  public let inputs: [(slot: Slot, shape: [Int], dtype: DType)]
  /// Where the outputs go, and what they are.
  public let outputs: [(slot: Slot, shape: [Int], dtype: DType)]
  /// Scratch memory of `op.workspace` floats.
  public let workspace: Slot
  /// The module that recorded it.
  public let path: String
}

/// A device that runs programs. A missing device is a value too: one whose methods throw with the reason.
public protocol Backend: Sendable {
  /// A short name, such as `blas`.
  var name: String { get }
  /// New memory of `count` words, all zero.
  func makeBuffer(_ count: Int) throws -> any DeviceBuffer
  /// The steps as something to call again and again, without further allocation.
  func prepare(_ steps: [Step]) throws -> [() -> Void]
}

extension Backend {
  /// New memory, whose purpose an error names.
  func makeBuffer(_ count: Int, for purpose: @autoclosure () -> String) throws -> any DeviceBuffer {
    do { return try makeBuffer(count) } catch TensorError.outOfMemory(let bytes, _) {
      throw TensorError.outOfMemory(bytes: bytes, purpose: purpose())
    }
  }
}

/// Parameters by name, in a device's memory; several programs can share one store.
public final class ParameterStore {
  /// The device.
  public let backend: any Backend
  var buffers: [String: (slot: Slot, shape: [Int], dtype: DType)] = [:]

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
      known.slot.buffer.write(bytes, at: known.slot.offset)
      return
    }
    let buffer = try backend.makeBuffer(dtype.words(shape.elements), for: "parameter '\(name)'")
    buffer.write(bytes, at: 0)
    buffers[name] = (Slot(buffer: buffer, offset: 0), shape, dtype)
  }

  /// The parameter `name`.
  /// - Throws: `TensorError` when there is none.
  public func get(_ name: String) throws -> HostTensor {
    let (slot, shape, dtype) = try slot(name)
    return try slot.buffer.read(shape, dtype, at: slot.offset)
  }

  func slot(_ name: String) throws -> (slot: Slot, shape: [Int], dtype: DType) {
    guard let known = buffers[name] else { throw TensorError.parameter("no parameter '\(name)'") }
    return known
  }
}
