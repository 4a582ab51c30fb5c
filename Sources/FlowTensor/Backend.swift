/// Memory of a device, addressed in 4-byte words; a value of a narrower type begins at a word.
public protocol DeviceBuffer: AnyObject {
  /// The number of words.
  var count: Int { get }
  /// Copies `bytes` to the words from `offset`.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int)
  /// Fills `bytes` from the words from `offset`.
  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int)
  /// Whose memory it is, if it isn't the device's own; then it is only read.
  var keeper: (any MemoryKeeper)? { get }
}

/// Who keeps memory that a device reads without a copy, such as a file's pages.
public protocol MemoryKeeper: AnyObject, Sendable {
  /// What happened to the memory, if what was read from it can't be used.
  var fault: String? { get }
}

/// Memory that is only read while its keeper is there.
public struct BorrowedMemory {
  /// The bytes, aligned for elements of their type.
  public let bytes: UnsafeRawBufferPointer
  /// Whose they are.
  public let keeper: any MemoryKeeper
  /// Memory of `keeper`.
  public init(_ bytes: UnsafeRawBufferPointer, keeper: any MemoryKeeper) {
    self.bytes = bytes
    self.keeper = keeper
  }
}

extension DeviceBuffer {
  /// Its own.
  public var keeper: (any MemoryKeeper)? { nil }

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
  /// Memory that is read where it lies; `nil` where the device can't.
  func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)?
  /// The steps as something to call again and again, without further allocation.
  func prepare(_ steps: [Step]) throws -> [() -> Void]
}

extension Backend {
  /// It can't.
  public func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { nil }

  /// New memory, whose purpose an error names.
  func makeBuffer(_ count: Int, for purpose: @autoclosure () -> String) throws -> any DeviceBuffer {
    do { return try makeBuffer(count) } catch TensorError.outOfMemory(let bytes, _) {
      throw TensorError.outOfMemory(bytes: bytes, purpose: purpose())
    }
  }
}
