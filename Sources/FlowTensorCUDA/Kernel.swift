import FlowTensor

/// A kernel: an entry point of a source, compiled with some names defined. Compiled once, and kept on disk by content.
struct Kernel: Hashable, Sendable {
  /// Where its text comes from.
  enum Source: Hashable, Sendable {
    /// `kernels/NAME.cu` of the package, after those that `kernels.c` puts before it.
    case file(String)
    /// Text made for a program.
    case text(String)
  }
  /// Its text.
  var source: Source
  /// The name of its entry point.
  var entry: String
  /// Names defined for its compilation, such as `T0=bf16`.
  var defines: [String] = []

  /// The entry `entry` of the file `file`.
  init(_ file: String, _ entry: String, _ defines: [String] = []) {
    source = .file(file)
    self.entry = entry
    self.defines = defines
  }

  /// The entry `entry` of `text`.
  init(text: String, _ entry: String) {
    source = .text(text)
    self.entry = entry
  }
}

/// What a kernel is given.
enum Argument: Sendable {
  /// An address on the device.
  case address(UInt64)
  /// Bytes into the step's scratch memory.
  case scratch(Int)
  case int(Int32)
  case long(Int64)
  case float(Float)
  /// The address of device memory that holds these words.
  case table([UInt64])
  /// What the copy engine is told of a matrix.
  case matrix(BulkMatrix)
  /// These words themselves.
  case words([UInt64])

  /// What is passed, in words; none of what an address has to be found for first.
  var words: [UInt64] {
    switch self {
    case .address(let value): [value]
    case .int(let value): [UInt64(UInt32(bitPattern: value))]
    case .long(let value): [UInt64(bitPattern: value)]
    case .float(let value): [UInt64(value.bitPattern)]
    case .words(let words): words
    case .scratch, .table, .matrix: []
    }
  }
}

/// One launch of a kernel.
struct Launch: Sendable {
  var kernel: Kernel
  /// Blocks, along x, y and z.
  var grid: (Int, Int, Int)
  /// Threads of a block, along x.
  var threads: Int
  /// Bytes of dynamic shared memory.
  var shared = 0
  var arguments: [Argument]

  init(_ kernel: Kernel, grid: (Int, Int, Int), threads: Int, shared: Int = 0, _ arguments: [Argument]) {
    self.kernel = kernel
    self.grid = grid
    self.threads = threads
    self.shared = shared
    self.arguments = arguments
  }

  /// As many blocks along x as `count` elements want when each block takes `each`.
  init(_ kernel: Kernel, count: Int, each: Int, threads: Int, shared: Int = 0, _ arguments: [Argument]) {
    self.init(
      kernel, grid: (max(1, (count + each - 1) / each), 1, 1), threads: threads, shared: shared, arguments)
  }
}

/// What a step is on the device: launches, in order.
struct Work: Sendable {
  var launches: [Launch]
  /// Bytes of scratch memory that they share, from a multiple of 256.
  var scratch = 0
  /// What it is called beside its alternatives.
  var form = "usual"
  /// Other ways to do the same, each with the same results, bit by bit. A trial on the device may take one.
  var alternatives: [Work] = []
}

/// A value of a step on the device.
struct Operand: Sendable {
  let address: UInt64
  let shape: [Int]
  let dtype: DType
  /// Whether it lies as [B, N, H, D], though its shape is [B, H, N, D].
  var isTurned = false

  /// The number of elements.
  var count: Int { shape.reduce(1, *) }
  /// Its elements' type in a kernel's source.
  var cType: String {
    switch dtype {
    case .float32: "float"
    case .bfloat16: "bf16"
    case .float16: "f16"
    case .int32: "int"
    case .bool: "u8"
    }
  }
  /// Its memory.
  var range: Range<UInt64> { address..<address + UInt64(count * dtype.size) }
  /// As an argument.
  var argument: Argument { .address(address) }
}

/// What a family of kernels sees of a step.
struct StepContext: Sendable {
  let inputs: [Operand]
  let outputs: [Operand]
  /// Of the device.
  let multiprocessors: Int
  /// The device's compute capability times ten, such as 90.
  let capability: Int
  /// Bytes that the step must move for its work to have alternatives.
  var leastTried = Int.max
  /// Whether it moves as many.
  var isTried: Bool { (inputs + outputs).reduce(0) { $0 + $1.range.count } >= leastTried }
}
