/// Memory of a device, in 4-byte elements.
public protocol DeviceBuffer: AnyObject {
  /// The number of elements.
  var count: Int { get }
  /// Copies `values` to the elements from `offset`.
  func write(_ values: UnsafeBufferPointer<Float>, at offset: Int)
  /// Copies `values` to the elements from `offset`.
  func write(_ values: [Int32], at offset: Int)
  /// Copies out `count` elements from `offset`.
  func read(_ count: Int, at offset: Int) -> [Float]
}

extension DeviceBuffer {
  /// Copies `values` to the elements from `offset`.
  public func write(_ values: [Float], at offset: Int) {
    values.withUnsafeBufferPointer { write($0, at: offset) }
  }
}

/// A place in a device's memory.
public struct Slot {
  /// The memory.
  public let buffer: any DeviceBuffer
  /// The first element.
  public let offset: Int
}

/// One kernel's work, all addresses known.
public struct Step {
  /// What to compute.
  public let op: any Op
  /// Where the inputs lie, and their shapes.
  public let inputs: [(slot: Slot, shape: [Int])]
  /// Where the outputs go, and their shapes.
  public let outputs: [(slot: Slot, shape: [Int])]
  /// Scratch memory of `op.workspace` elements.
  public let workspace: Slot
  /// The module that recorded it.
  public let path: String
}

/// A device that runs programs. A missing device is a value too: one whose methods throw with the reason.
public protocol Backend: Sendable {
  /// A short name, such as `blas`.
  var name: String { get }
  /// New memory, all zero.
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
  private var buffers: [String: (buffer: any DeviceBuffer, shape: [Int])] = [:]

  /// An empty store.
  public init(_ backend: any Backend) { self.backend = backend }

  /// The names, sorted.
  public var names: [String] { buffers.keys.sorted() }

  /// The shape of the parameter `name`, if it is there.
  public func shape(_ name: String) -> [Int]? { buffers[name]?.shape }

  /// Sets the parameter `name`, making it if need be.
  /// - Throws: `TensorError` when it has another shape or memory runs out.
  public func set(_ name: String, _ tensor: HostTensor) throws {
    try tensor.floats.withUnsafeBufferPointer { try set(name, tensor.shape, $0) }
  }

  /// Sets the parameter `name` from memory that holds its elements, row-major, making it if need be.
  /// - Throws: `TensorError` when it has another shape, their number doesn't fit it, or memory runs out.
  public func set(_ name: String, _ shape: [Int], _ values: UnsafeBufferPointer<Float>) throws {
    guard shape.isValid, values.count == shape.elements else {
      throw TensorError.parameter("parameter '\(name)' of shape \(shape) was given \(values.count) values")
    }
    if let known = buffers[name] {
      guard known.shape == shape else {
        throw TensorError.parameter("parameter '\(name)' has shape \(known.shape), not \(shape)")
      }
      known.buffer.write(values, at: 0)
      return
    }
    let buffer = try backend.makeBuffer(max(1, shape.elements), for: "parameter '\(name)'")
    buffer.write(values, at: 0)
    buffers[name] = (buffer, shape)
  }

  /// The parameter `name`.
  /// - Throws: `TensorError` when there is none.
  public func get(_ name: String) throws -> HostTensor {
    let (buffer, shape) = try slot(name)
    return try HostTensor(buffer.read(shape.elements, at: 0), shape)
  }

  func slot(_ name: String) throws -> (buffer: any DeviceBuffer, shape: [Int]) {
    guard let known = buffers[name] else { throw TensorError.parameter("no parameter '\(name)'") }
    return known
  }
}
