public import FlowCore
import FlowPlan

/// How flow uses a Slurm cluster.
public struct SlurmSettings: Sendable, Hashable {
  /// Options for each `sbatch`, after those that flow makes, such as `--partition=gpu`.
  public var arguments: [String] = []
  /// Items are put together until a task is expected to take this many seconds.
  public var taskSeconds = 300.0
  /// At most this many tasks per stage while nothing is known of how long an item takes.
  public var tasks = 64
  /// At most this many tasks of a stage run at once; `nil`: what the cluster allows.
  public var atOnce: Int?
  /// Processors of a task that takes all threads of a run, when `-j` doesn't say; `nil`: those of the largest node, at
  /// most 8.
  public var processors: Int?
  /// Seconds between two looks at the queue: the first after a change, the last after many without one.
  public var poll = 1.0, pollMost = 15.0
  /// Seconds to wait for more actions of a stage before those that came are submitted.
  public var gather = 0.5
  /// Seconds in which what a node wrote must have become visible here after its job has ended.
  public var visibility = 10.0
  /// How often an action is submitted again because its node failed, it was preempted, or its job is gone.
  public var losses = 5
  /// Seconds for which the queue may be out of reach before the run is given up (its jobs go on).
  public var patience = 600.0

  /// The defaults.
  public init() {}

  /// The defaults but for `NAME=VALUE` pairs.
  /// - Throws: `Diagnostics`.
  public init(_ pairs: [String]) throws(Diagnostics) {
    for pair in pairs {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      let name = parts[0]
      func fail(_ message: String, _ help: String?) -> Diagnostics {
        Diagnostics([Diagnostic(code: "E017", message, help: help)])
      }
      guard ProjectFile.slurmNames.contains(name) else {
        throw fail(
          "there is no setting '\(name)' for Slurm",
          DidYouMean.hint(name, among: ProjectFile.slurmNames, what: "setting"))
      }
      guard parts.count == 2, !parts[1].isEmpty else {
        throw fail("'--slurm \(pair)' gives no value", "--slurm \(name)=VALUE")
      }
      let value = parts[1]
      func number(atLeast least: Double) throws(Diagnostics) -> Double {
        guard let number = Double(value), number.isFinite, number >= least, number <= 1e9 else {
          throw fail("'--slurm \(pair)': not a number of at least \(Int(least))", nil)
        }
        return number
      }
      switch name {
      case "args": arguments += value.split(separator: " ").map(String.init)
      case "task-seconds": taskSeconds = try number(atLeast: 0)
      case "tasks": tasks = Int(try number(atLeast: 1))
      case "at-once": atOnce = Int(try number(atLeast: 1))
      case "processors": processors = Int(try number(atLeast: 1))
      case "poll": poll = try number(atLeast: 0)
      case "poll-most": pollMost = try number(atLeast: 0)
      case "gather": gather = try number(atLeast: 0)
      case "visibility": visibility = try number(atLeast: 0)
      case "losses": losses = Int(try number(atLeast: 0))
      case "patience": patience = try number(atLeast: 0)
      default: arguments.append("--\(name)=\(value)")
      }
    }
    pollMost = max(poll, pollMost)
  }
}
