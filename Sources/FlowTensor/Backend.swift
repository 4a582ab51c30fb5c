/// Memory of a device, addressed in 4-byte words; a value of a narrower type begins at a word.
public protocol DeviceBuffer: AnyObject {
  /// The number of words.
  var count: Int { get }
  /// Copies `bytes` to the words from `offset`.
  /// - Throws: `TensorError.device` when the device is lost.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(TensorError)
  /// Fills `bytes` from the words from `offset`, once all work on the device is done.
  /// - Throws: `TensorError.device` when the device is lost or its work failed.
  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(TensorError)
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
  func write(_ tensor: HostTensor, at offset: Int) throws(TensorError) {
    try tensor.withBytes { (bytes) throws(TensorError) in try write(bytes, at: offset) }
  }

  /// The elements of a tensor from the word `offset`.
  func read(_ shape: [Int], _ type: DType, at offset: Int) throws(TensorError) -> HostTensor {
    let values = try HostTensor.Values(type, count: shape.elements) { (bytes) throws(TensorError) in
      try read(bytes, at: offset)
    }
    return try HostTensor(values, shape)
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
  /// Scratch memory of as many words as the backend's `workspace` says.
  public let workspace: Slot
  /// The module that recorded it.
  public let path: String
}

/// Steps made ready, to be run again and again without further allocation.
public protocol PreparedSteps: AnyObject {
  /// Runs all, in order.
  /// - Throws: `TensorError.device` when the device is lost or a kernel failed.
  func run() throws(TensorError)
  /// Runs steps one after another, in the order given and as often as named, all of that `runs` times; the seconds that each
  /// run took on the device.
  /// - Throws: as `run`.
  func time(steps order: [Int], runs: Int) throws(TensorError) -> [Double]
  /// As above, each step after so much other memory was read that the device's caches hold nothing of its own; the time of that
  /// reading is taken off. `nil` where that can't be had.
  func time(cold order: [Int], runs: Int) throws(TensorError) -> [Double]?
  /// The step that does what step `index` is to do: itself, or the first of those that are one kernel's work together.
  func doer(of index: Int) -> Int
  /// Bytes of the device's memory that it took for itself, such as scratch memory of its kernels.
  var bytes: Int { get }
}

extension PreparedSteps {
  /// None.
  public var bytes: Int { 0 }
  /// It can't be had.
  public func time(cold order: [Int], runs: Int) -> [Double]? { nil }
  /// Itself.
  public func doer(of index: Int) -> Int { index }
}

/// The type that intermediate float32 values are kept in instead, where an op's kernel can write and all that read it can take
/// it. Numbers are computed in float32 all the same; products take their operands so.
public struct Narrowing: Sendable {
  /// The type.
  public let type: DType
  /// Whether the op's kernel can take input number `input` so.
  public let reads: @Sendable (_ op: any Op, _ input: Int) -> Bool
  /// Whether it can give output number `output` so.
  public let writes: @Sendable (_ op: any Op, _ output: Int) -> Bool
  /// Whether it should be given input number `input` so, by a copy if need be.
  public let wants: @Sendable (_ op: any Op, _ input: Int) -> Bool
  /// Elements from which a value is worth it.
  public var smallest = 1024

  /// A narrowing to `type`.
  public init(
    type: DType, reads: @escaping @Sendable (any Op, Int) -> Bool,
    writes: @escaping @Sendable (any Op, Int) -> Bool, wants: @escaping @Sendable (any Op, Int) -> Bool
  ) {
    self.type = type
    self.reads = reads
    self.writes = writes
    self.wants = wants
  }
}

/// A device that runs programs. A missing device is a value too: one whose methods throw with the reason.
public protocol Backend: Sendable {
  /// A short name, such as `blas`.
  var name: String { get }
  /// New memory of `count` words, all zero.
  func makeBuffer(_ count: Int) throws -> any DeviceBuffer
  /// The same, in the host's memory where `place` says so and the device can work there.
  func makeBuffer(_ count: Int, in place: MemoryPlace) throws -> any DeviceBuffer
  /// Memory of `count` words through which inputs reach the device while it computes; `nil` where it computes in the host's.
  func makeInputStage(_ count: Int) throws -> (any InputStage)?
  /// The same for outputs.
  func makeOutputStage(_ count: Int) throws -> (any OutputStage)?
  /// Whether its memory is another than the host's.
  var hasOwnMemory: Bool { get }
  /// Memory that is read where it lies; `nil` where the device can't.
  func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)?
  /// Makes the steps ready to be run.
  func prepare(_ steps: [Step]) throws -> any PreparedSteps
  /// Words of scratch memory that the op's kernel wants from the program.
  func workspace(_ op: any Op, _ inputs: [[Int]], _ outputs: [[Int]]) -> Int
  /// How intermediate values are kept, if not as they are recorded.
  var narrowing: Narrowing? { get }
  /// Whether trainings on it compute cheap values again for their gradients: memory is scarcer than time.
  var recomputesCheaply: Bool { get }
  /// Whether attention takes and gives memory of [B, N, H, D].
  var turnsAttention: Bool { get }
  /// Whether an op that could be fused, but has nothing to be fused with, is a fused group of its own.
  func fusesAlone(_ op: any Op) -> Bool
  /// Whether a product can be added to what is there at no cost.
  var addsInProducts: Bool { get }
  /// Elements of the widest row that a fused group can hold.
  var widestRow: Int { get }
  /// The ranks whose devices speak with this one, if there are any.
  var ranks: (any DeviceRanks)? { get }
}

extension Backend {
  /// What the op says.
  public func workspace(_ op: any Op, _ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    op.workspace(inputs, outputs)
  }
  /// Its only memory.
  public func makeBuffer(_ count: Int, in place: MemoryPlace) throws -> any DeviceBuffer {
    try makeBuffer(count)
  }
  /// None.
  public func makeInputStage(_ count: Int) throws -> (any InputStage)? { nil }
  /// None.
  public func makeOutputStage(_ count: Int) throws -> (any OutputStage)? { nil }
  /// No.
  public var hasOwnMemory: Bool { false }
  /// As recorded.
  public var narrowing: Narrowing? { nil }
  /// No.
  public var recomputesCheaply: Bool { false }
  /// No.
  public var turnsAttention: Bool { false }
  /// No: it has a kernel.
  public func fusesAlone(_ op: any Op) -> Bool { false }
  /// It can't.
  public var addsInProducts: Bool { false }
  /// None.
  public var ranks: (any DeviceRanks)? { nil }
  /// What a block of a few registers in a cache allows.
  public var widestRow: Int { RowProgram.mostWidth }
  /// It can't.
  public func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { nil }

  /// New memory, whose purpose an error names.
  func makeBuffer(_ count: Int, for purpose: @autoclosure () -> String) throws -> any DeviceBuffer {
    do { return try makeBuffer(count) } catch TensorError.outOfMemory(let bytes, _) {
      throw TensorError.outOfMemory(bytes: bytes, purpose: purpose())
    }
  }
}
