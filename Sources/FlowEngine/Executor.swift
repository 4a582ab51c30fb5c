public import FlowCore
public import FlowPlan
public import FlowStageKit
public import FlowStore
import Foundation
import Synchronization

/// What came of running an action.
public enum ActionOutcome: Sendable, Hashable {
  /// Its outputs (ids as in `ActionRecord`), metrics, and peak memory in bytes.
  case done(outputs: [String: [Item]], metrics: [String: Double], peakMemory: Int)
  /// The item was set aside for this reason.
  case rejected(String)
  /// It failed: by what, what to say, and what to do next if known.
  case failed(FailureCause, String, help: String?)
  /// An object that it takes is missing or damaged.
  case missing(Digest)
  /// Done or rejected where it ran, which put its record into the store.
  case recorded(ActionRecord)
  /// The cache can't be read or written, which no item is at fault for.
  case broken(String)
  /// The run was interrupted.
  case cancelled

  /// What ended it, when it failed.
  var cause: FailureCause? { if case .failed(let cause, _, _) = self { cause } else { nil } }
}

/// An action with what it may use.
public struct Assignment: Sendable, Codable {
  /// What to run.
  public var action: Action
  /// What it was granted; on a cluster, what to ask for.
  public var grant: Grant
  /// GPUs to ask for on a cluster, which gives them ids itself.
  public var gpus = 0
  /// Seconds after which it is ended.
  public var timeout: Double?
  /// The stage's name in the pipeline.
  public var stage: String
  /// How many times more memory it gets, because it ran out of it before.
  public var growth = 1
  /// Seconds that such an action took in earlier runs, if there were any.
  public var expectedSeconds: Double?
  /// How many actions of its stage come together with it; 0 when that isn't known.
  public var company = 0

  /// An action of the stage called `stage`.
  public init(_ action: Action, stage: String, grant: Grant, timeout: Double? = nil) {
    self.action = action
    self.stage = stage
    self.grant = grant
    self.timeout = timeout
  }
}

/// Runs actions.
public protocol Executor: Sendable {
  /// How many actions it takes at once when they run elsewhere; `nil` when they run on this machine.
  var elsewhere: Int? { get }
  /// Runs an action; `progress` gets fractions and notes, `log` the stage's lines.
  func run(
    _ assignment: Assignment, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) async -> ActionOutcome
  /// Asks running actions to stop at their next checkpoint.
  func cancel()
}

extension Executor {
  /// On this machine.
  public var elsewhere: Int? { nil }
}

/// `StageIO` over the store: one action's scratch, checkpoint and inputs.
final class StoreIO: StageIO {
  private let store: Store
  private let folder: String
  let scratch: Scratch
  private let report: @Sendable (Double, String) -> Void
  private let write: @Sendable (String) -> Void
  private let cancelled: @Sendable () -> Bool
  /// Large inputs as they were put into the scratch folder, by path.
  private let staged = Mutex<[String: (identity: FileIdentity, digest: Digest)]>([:])

  init(
    store: Store, key: Digest, scratch: Scratch, cancelled: @escaping @Sendable () -> Bool,
    progress: @escaping @Sendable (Double, String) -> Void, log: @escaping @Sendable (String) -> Void
  ) {
    self.store = store
    self.scratch = scratch
    folder = store.workFolder(key)
    report = progress
    write = log
    self.cancelled = cancelled
  }

  var scratchDirectory: String { scratch.path }
  var checkpointDirectory: String {
    try? FileManager.default.createDirectory(
      atPath: folder + "/checkpoint", withIntermediateDirectories: true)
    return folder + "/checkpoint"
  }
  var isCancelled: Bool { cancelled() }
  func progress(_ fraction: Double, _ note: String) { report(fraction, note) }
  func log(_ line: String) { write(line) }

  func materialise(_ file: ItemFile) throws -> String {
    let path = "\(scratch.path)/\(file.digest.short)-\(file.name)"
    let isNew = access(path, F_OK) != 0
    try materialise(file, at: path)
    if isNew, file.size > StoreIO.large { remember(path, file.digest) }
    return path
  }

  /// Puts the file's bytes at `path`.
  func materialise(_ file: ItemFile, at path: String) throws {
    if access(path, F_OK) != 0 { try store.unpack(file.digest, size: file.size, at: path, mode: 0o444) }
  }

  func store(_ bytes: [UInt8], as name: String) throws -> ItemFile {
    ItemFile(name: name, digest: try store.put(bytes), size: bytes.count)
  }

  private static let large = 1 << 20

  /// Takes note of what lies at `path`. It gets a time at which nobody writes, so that any writing shows.
  private func remember(_ path: String, _ digest: Digest) {
    var times = [timespec(), timespec()]
    guard utimensat(AT_FDCWD, path, &times, 0) == 0, let identity = FileIdentity(path: path) else { return }
    staged.withLock { $0[path] = (identity, digest) }
  }

  func store(contentsOf path: String, as name: String) throws -> ItemFile {
    guard access(path, R_OK) == 0 else {
      throw StageFailure("the stage emitted '\(name)' from \(path), which is not there")
    }
    // An input that is handed on as it came is in the store.
    if let known = staged.withLock({ $0[path] }), FileIdentity(path: path) == known.identity,
      store.isKept(known.digest)
    {
      return ItemFile(name: name, digest: known.digest, size: known.identity.size)
    }
    let (digest, size) = try store.put(contentsOf: path)
    return ItemFile(name: name, digest: digest, size: size)
  }

  /// Empties the scratch folder; removes the checkpoint when the action is over.
  func finish(keepCheckpoint: Bool) {
    scratch.empty()
    if !keepCheckpoint, access(folder, F_OK) == 0 { try? FileManager.default.removeItem(atPath: folder) }
  }
}

/// Runs stages in this process: what a worker does, and what tests use.
public final class LocalExecutor: Executor {
  private let store: Store
  private let stages: [String: NativeStage]
  private let ranks: any Communicator
  private let stop = Atomic<Bool>(false)
  private let commands = CommandRunner()
  private let scratches = Mutex<[Scratch]>([])

  /// Runs `stages` over `store`, as one of `ranks`.
  public init(store: Store, stages: [NativeStage], ranks: any Communicator = SoleRank()) {
    self.store = store
    self.ranks = ranks
    self.stages = Dictionary(stages.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
  }

  /// See `Executor.cancel()`.
  public func cancel() {
    stop.store(true, ordering: .relaxed)
    commands.kill()
  }

  /// See `Executor`. A stage in this process can't be ended, so there a timeout does nothing.
  public func run(
    _ assignment: Assignment, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) async -> ActionOutcome {
    execute(assignment.action, grant: assignment.grant, progress: progress, log: log)
  }

  /// The same, on the calling thread.
  func execute(
    _ action: Action, grant: Grant, progress: @escaping @Sendable (Double, String) -> Void,
    log: @escaping @Sendable (String) -> Void
  ) -> ActionOutcome {
    let stage = stages[action.stage]
    guard stage != nil || action.command != nil else {
      return .failed(
        .other, "stage '\(action.stage)' is declared but not built into this flow",
        help: "rebuild, or remove it")
    }
    guard action.ranks == ranks.size else {
      return .failed(
        .other, "it asks for \(action.ranks) ranks, and runs on \(ranks.size)",
        help: "run it by 'flow run', which starts them")
    }
    let scratch: Scratch
    do {
      scratch = try scratches.withLock { $0.popLast() } ?? Scratch.take(in: store.root + "/tmp/scratch")
    } catch {
      return .broken("no scratch folder: \(error)")
    }
    defer { scratches.withLock { $0.append(scratch) } }
    let io = StoreIO(
      store: store, key: action.key, scratch: scratch,
      cancelled: { [self] in stop.load(ordering: .relaxed) }, progress: progress, log: log)
    var declaration = StageDeclaration(
      name: action.stage, version: action.version, doc: "", per: action.perItem ? .item : .all)
    declaration.outputs = action.outputs.map { OutputDeclaration(name: $0, type: .report) }
    var seed: UInt64 = 0
    if case .int(let value)? = action.parameters["seed"] { seed = UInt64(bitPattern: Int64(value)) }
    let context = StageContext(
      declaration: declaration, inputs: action.inputs, seed: seed, threads: grant.threads / ranks.size,
      gpus: grant.gpus, device: action.device, ranks: ranks, io: ranks.rank == 0 ? io : SilentIO(io))
    var outcome: ActionOutcome
    Machine.forgetPeakMemory()
    do {
      let result: StageContext.Result
      var programMemory = 0
      if let command = action.command {
        (result, programMemory) = try commands.run(command, action, grant, io)
      } else {
        try stage?.run(parameters: .object(action.parameters), context: context)
        result = context.result
      }
      outcome = .done(
        outputs: result.outputs, metrics: result.metrics,
        peakMemory: (Machine.peakMemory() + programMemory) * ranks.size)
    } catch let error as ItemRejected {
      outcome = .rejected(error.reason)
    } catch is StageCancelled {
      outcome = .cancelled
    } catch let error as CommandRunner.Killed {
      outcome = .failed(.outOfMemory, "\(error)", help: "give it more memory, or less to do")
    } catch let error as StageFailure {
      outcome = .failed(.other, error.message, help: error.help)
    } catch StoreError.missing(let digest) {
      outcome = .missing(digest)
    } catch let error as StoreError {
      outcome = .broken("\(error)")
    } catch let error as FileError {
      outcome = .broken("can't keep a checkpoint: \(error)")
    } catch {
      outcome = .failed(.other, "\(error)", help: nil)
    }
    // The folder of the checkpoint is the first rank's.
    if case .done = outcome, ranks.rank == 0 {
      io.finish(keepCheckpoint: false)
    } else {
      io.finish(keepCheckpoint: true)
    }
    return outcome
  }
}
