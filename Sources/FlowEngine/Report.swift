public import FlowCore
import FlowStageKit
import FlowStore

/// Where a stage stands.
public enum StageState: String, Sendable, Hashable {
  /// All of its results are in the cache.
  case cached
  /// Something has to run.
  case run
  /// It depends on what a stage before it will give.
  case mayRun = "may-run"
  /// It ran.
  case done
  /// It failed, or what it takes from did.
  case failed
  /// Its licences don't allow it, or those of what it takes from.
  case denied
}

/// How many items a stage has, and what became of them.
public struct ItemCounts: Sendable, Hashable {
  /// All of them.
  public var total = 0
  /// Taken from the cache.
  public var cached = 0
  /// Run, or to be run.
  public var run = 0
  /// Set aside.
  public var quarantined = 0
}

/// What a plan or a run says about a stage.
public struct StageReport: Sendable {
  /// Its name in the pipeline.
  public var name: String
  /// Where it stands.
  public var state: StageState
  /// Why it has something to run.
  public var reasons: [Reason] = []
  /// Its items.
  public var items = ItemCounts()
  /// Seconds of work: taken in this run, or expected from earlier ones.
  public var seconds = 0.0
  /// Set-aside items and why.
  public var quarantined: [QuarantinedItem] = []
  /// Numbers that the stage reported, averaged over its items.
  public var metrics: [String: Double] = [:]
  /// Why it failed, and what to do next.
  public var failure: String?
  /// Nothing of it was begun: it takes from one that failed, or nothing more was begun after one had.
  public var isConsequence = false
  /// What is to be said when its licences don't allow it.
  public var denial: Diagnostic?
  /// The most memory that one of its workers held, bytes.
  public var peakMemory = 0
  /// Seconds of work that what has to run will take, by earlier runs.
  public var expectedSeconds: Double?
  /// Bytes of memory that one of its actions will take, by earlier runs or its declaration.
  public var expectedMemory = 0
  /// Seconds of work of the actions that ran.
  var work = 0.0
  /// The items of each output, when known.
  var outputs: [String: Artifact]?
  /// Its actions, when all are known.
  var units: Units?
  /// What each input took.
  var inputs: [String: Tree] = [:]
  /// The digests of the stage with and without its inputs, when known.
  var digest: Digest?, template: Digest?

  init(name: String, state: StageState) {
    self.name = name
    self.state = state
  }
}

/// What a run or an assessment came to.
public struct RunReport: Sendable {
  /// The stages in order.
  public var stages: [StageReport]
  /// Seconds from start to end.
  public var seconds: Double
  /// It was interrupted.
  public var interrupted = false
  /// Where each result was laid out.
  public var results: [LaidResult] = []
  /// Seconds that a run will take, and bytes of memory that it will hold at once, by earlier runs; `nil` when nothing is
  /// known of a stage that has to run, or nothing has to.
  public var forecast: Forecast?
  /// The lock file, when it was written.
  public var lockFile: String?

  /// Whether a stage failed.
  public var failed: Bool { stages.contains { $0.state == .failed } }

  /// Whether licences keep a stage from being made.
  public var denied: Bool { stages.contains { $0.state == .denied } }
}

/// A result as it lies under `runs/NAME/`.
public struct LaidResult: Sendable, Hashable {
  /// The name in the pipeline's `outputs`.
  public var name: String
  /// The folder.
  public var folder: String
  /// How many files it has.
  public var count: Int
  /// The first of them.
  public var example: String
}

/// What happens during a run.
public enum RunEvent: Sendable {
  /// A stage has items to run.
  case started(stage: String, items: Int, reasons: [Reason])
  /// One of its actions reports.
  case progress(stage: String, item: String, fraction: Double, note: String)
  /// One of its actions is over; `reason` when it was set aside.
  case item(stage: String, item: String, quarantined: String?)
  /// An action failed and is tried again.
  case retry(stage: String, item: String, reason: String)
  /// Something that the user should know about a stage.
  case warning(stage: String, String)
  /// What an action gave is gone from the cache and is made again.
  case restoring(stage: String, item: String)
  /// A stage is over.
  case finished(StageReport)
}
