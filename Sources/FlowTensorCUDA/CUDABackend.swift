import CCUDA
public import FlowTensor

/// How the CUDA backend computes.
public enum CUDAPrecision: String, Sendable, CaseIterable {
  /// All in float32.
  case float32
  /// Products round their float32 operands to TF32 (10 bits).
  case tf32
  /// Intermediate values are kept in bfloat16, and products take such operands; sums and all else are float32, and so are
  /// parameters.
  case bfloat16
}

/// The CUDA backend: one device, all of a program's steps as one graph that is replayed.
public struct CUDABackend: CUDAPlanning {
  /// How it computes.
  public let precision: CUDAPrecision
  let device: CUDADevice
  let compiler: KernelCompiler
  let trials: TrialChoices
  let group: CUDARanks?
  /// `cuda`.
  public var name: String { "cuda" }

  /// A backend on device number `ordinal`.
  /// - Throws: `TensorError.device` that says what is missing, and what to do.
  public init(device ordinal: Int = 0, precision: CUDAPrecision = .bfloat16) throws(TensorError) {
    try self.init(CUDADevice(ordinal), precision) { TrialChoices(device: $0) }
  }

  /// A backend on `device`, whose trials are those that `trials` makes of its name.
  init(
    _ device: CUDADevice, _ precision: CUDAPrecision, trials: (String) -> TrialChoices
  ) {
    self.device = device
    self.precision = precision
    compiler = KernelCompiler(capability: device.capability)
    self.trials = trials(device.name)
    group = nil
  }

  /// `other` as one of `ranks`.
  init(_ other: CUDABackend, ranks: CUDARanks) {
    (device, compiler, trials) = (other.device, other.compiler, other.trials)
    (precision, group) = (other.precision, ranks)
  }

  /// See `Backend`.
  public var ranks: (any DeviceRanks)? { group }

  /// The device, for a reader, such as `NVIDIA H200 (sm_90, 139 GiB)`.
  public var summary: String { device.description.summary }

  /// What decides results: the device's kind, the libraries' versions and the precision.
  public var numericClass: String {
    "cuda \(device.name), \(CUDALibraries.versions), \(precision.rawValue)"
  }

  /// What this process tried of ways to do a step, and took of what was tried before: a line each, with the milliseconds that
  /// each took if it was tried here.
  public var notesOfTrials: [String] { trials.notes }

  /// Bytes of the device's memory that are free and in all, over all processes.
  public func memory() throws(TensorError) -> (free: Int, total: Int) { (try device.free(), device.memory) }

  /// See `Backend`.
  public func makeBuffer(_ count: Int) throws -> any DeviceBuffer { try CUDABuffer(device, count) }

  /// The host's is page-locked, and mapped into the device's addresses.
  public func makeBuffer(_ count: Int, in place: MemoryPlace) throws -> any DeviceBuffer {
    try CUDABuffer(device, count, in: place)
  }

  /// See `Backend`.
  public func makeInputStage(_ count: Int) throws -> (any InputStage)? { try CUDAInputStage(device, count) }

  /// See `Backend`.
  public func makeOutputStage(_ count: Int) throws -> (any OutputStage)? {
    try CUDAOutputStage(device, count)
  }

  /// Yes.
  public var hasOwnMemory: Bool { true }

  /// See `Backend`.
  public func prepare(_ steps: [Step]) throws -> any PreparedSteps { try CUDASteps(self, steps) }
}
