public import FlowTensor

/// How programs are planned for CUDA, whether there is a device or not.
public protocol CUDAPlanning: Backend {
  /// How it computes.
  var precision: CUDAPrecision { get }
}

extension CUDAPlanning {
  /// Kernels say themselves what they want.
  public func workspace(_ op: any Op, _ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }

  /// bfloat16 where that is the precision.
  public var narrowing: Narrowing? {
    precision == .bfloat16
      ? Narrowing(
        type: .bfloat16, reads: { KernelTable.reads($0, $1) }, writes: { KernelTable.writes($0, $1) },
        wants: { KernelTable.wants($0, $1) }) : nil
  }

  /// A pass over values costs it little, and its memory is what limits a training.
  public var recomputesCheaply: Bool { true }

  /// Its kernels take any strides.
  public var turnsAttention: Bool { true }

  /// All but copies, which have kernels that turn matrices, and sums, of which small ones are one launch.
  public func fusesAlone(_ op: any Op) -> Bool { !(op is StridedCopy || op is Sum) }

  /// cuBLASLt's products read what they are added to as they write.
  public var addsInProducts: Bool { true }

  /// What the registers of a block of 1,024 threads hold of a few values.
  public var widestRow: Int { 16_384 }
}

/// Plans programs as for a CUDA device, without one: what memory they would take, and what would be in it. There is no
/// memory behind its buffers, and what it prepares can't be run.
public struct CUDAPlanner: CUDAPlanning {
  /// How a device would compute.
  public let precision: CUDAPrecision
  /// `cuda, planned`.
  public var name: String { "cuda, planned" }
  /// A planner for a device that computes so.
  public init(precision: CUDAPrecision = .bfloat16) { self.precision = precision }

  /// See `Backend`.
  public func makeBuffer(_ count: Int) -> any DeviceBuffer { PlannedBuffer(count: count) }
  /// See `Backend`.
  public func prepare(_ steps: [Step]) -> any PreparedSteps { PlannedSteps() }

  private final class PlannedBuffer: DeviceBuffer {
    let count: Int
    init(count: Int) { self.count = count }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {}
    func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(TensorError) {
      throw PlannedSteps.fault
    }
  }

  private final class PlannedSteps: PreparedSteps {
    static let fault = TensorError.device("what is only planned can't be run; choose a device")
    func run() throws(TensorError) { throw PlannedSteps.fault }
    func time(steps order: [Int], runs: Int) throws(TensorError) -> [Double] { throw PlannedSteps.fault }
  }
}
