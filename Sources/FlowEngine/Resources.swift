import FlowCore
import FlowPlan
import FlowStageKit
import Foundation

/// What a run may hand out.
public struct Capacity: Sendable, Hashable {
  /// Threads, at least 1.
  public var threads: Int
  /// Memory in bytes.
  public var memory: Int
  /// The ids of the GPUs.
  public var gpus: [String]
  /// Named tokens; a pipeline's `limits` are laid over these.
  public var tokens: [String: Int] = [:]
  /// Whether it is known to be there.
  private(set) var isSeen = true

  /// A capacity; memory without bound and no GPU unless said.
  public init(threads: Int, memory: Int = .max, gpus: [String] = []) {
    self.threads = max(1, threads)
    self.memory = memory
    self.gpus = gpus
  }

  /// That of this machine.
  /// - Parameters:
  ///   - jobs: threads; all processors when `nil`.
  ///   - gpus: ids; when `nil` those of `CUDA_VISIBLE_DEVICES`, or else one for each `/dev/nvidia0`, `/dev/nvidia1` …
  public static func machine(jobs: Int?, gpus: [String]?) -> Capacity {
    Capacity(
      threads: jobs ?? ProcessInfo.processInfo.activeProcessorCount, memory: MachineMemory.available(),
      gpus: gpus ?? Machine.gpus())
  }

  /// That of a cluster, of which this machine sees nothing: what one action may have.
  public static func cluster(threads: Int) -> Capacity {
    var result = Capacity(threads: threads, gpus: (0..<64).map(String.init))
    result.isSeen = false
    return result
  }

  /// What to hand out here of actions that run elsewhere: `count` at once, and the tokens.
  func elsewhere(_ count: Int) -> Capacity {
    var result = Capacity(threads: count)
    result.tokens = tokens
    return result
  }

  /// What is left of it for a pipeline.
  func limited(_ plan: Plan) -> Capacity {
    var result = self
    result.tokens.merge(plan.limits.tokens) { $1 }
    if let memory = plan.limits.memory { result.memory = min(result.memory, memory) }
    return result
  }
}

extension PlannedStage {
  /// GPUs that it takes of a machine: as many as it says, else one for each rank where it computes on CUDA devices.
  func gpus(_ capacity: Capacity) -> Int {
    if resources.gpu > 0 { return resources.gpu }
    let hasThem = device == "cuda" || (device == "auto" && capacity.isSeen && !capacity.gpus.isEmpty)
    return hasThem ? ranks : 0
  }
}

/// What one action asks for while it runs; every part of it fits the run's capacity.
struct Request: Sendable, Hashable {
  /// Threads that it works on.
  var threads: Int
  /// Bytes of memory; 0 when nothing is known.
  var memory: Int
  /// GPUs.
  var gpus: Int
  /// Named tokens.
  var tokens: [String: Int]
  /// Nothing else may run beside it: it needs more memory than there is.
  var isAlone = false

  /// What an action of `stage` needs: its memory as measured in earlier runs with a fifth to spare, else as declared.
  init(_ stage: PlannedStage, measured: Int?, _ capacity: Capacity) {
    let resources = stage.resources
    threads = resources.cpu == 0 ? capacity.threads : min(resources.cpu, capacity.threads)
    gpus = min(stage.gpus(capacity), capacity.gpus.count)
    tokens = resources.tokens.filter { $0.value > 0 && capacity.tokens[$0.key] != nil }
    for (name, count) in tokens { tokens[name] = min(count, capacity.tokens[name] ?? count) }
    memory = Request.estimate(stage, measured)
    fit(capacity)
  }

  /// Bytes to expect. What is declared is of each rank; what was measured, of all, may have been of fewer.
  static func estimate(_ stage: PlannedStage, _ measured: Int?) -> Int {
    let (all, overflow) = stage.resources.memory.multipliedReportingOverflow(by: stage.ranks)
    let declared = overflow ? Int.max : all
    guard let measured, measured > 0 else { return declared }
    let expected = Int((Double(measured) * 1.2).rounded())
    return stage.ranks == 1 ? expected : max(declared, expected)
  }

  /// The same with twice the memory, for an action that had too little.
  func grown(_ capacity: Capacity) -> Request {
    var result = self
    // Nothing known: the whole machine is more than it had.
    result.memory = memory == 0 ? capacity.memory : memory.multipliedReportingOverflow(by: 2).partialValue
    if memory > capacity.memory / 2 { result.memory = capacity.memory }
    result.isAlone = isAlone || result.memory >= capacity.memory
    return result
  }

  /// What is held here of an action that runs elsewhere.
  var elsewhere: Request {
    var result = self
    (result.threads, result.memory, result.gpus, result.isAlone) = (1, 0, 0, false)
    return result
  }

  private mutating func fit(_ capacity: Capacity) {
    guard memory > capacity.memory else { return }
    memory = capacity.memory
    isAlone = true
  }
}

/// What an action was given.
public struct Grant: Sendable, Hashable, Codable {
  /// Threads that it may use.
  public var threads: Int
  /// Bytes of memory that were set aside for it; 0 when nothing is known of its need.
  public var memory: Int
  /// The ids of its GPUs.
  public var gpus: [String]

  /// A grant.
  public init(threads: Int, memory: Int = 0, gpus: [String] = []) {
    self.threads = threads
    self.memory = memory
    self.gpus = gpus
  }
}
