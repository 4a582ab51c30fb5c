import FlowCore
import FlowStore
import Foundation

/// The `sbatch` of a batch: how many tasks, what each may use.
struct SlurmJob {
  var batch: Batch
  /// The actions of each task.
  var tasks: [[Assignment]]
  /// Bytes that a task may use, if said.
  var memory: Int?

  /// What a task needs beside its stage: flow itself, and the worker before it has begun.
  static let overhead = 128 << 20

  /// Actions in tasks that are neither trivially short nor more than an array may have.
  static func split(_ assignments: [Assignment], _ settings: SlurmSettings, maxArraySize: Int)
    -> [[Assignment]]
  {
    let count = assignments.count
    var size: Int
    if let expected = assignments.first?.expectedSeconds {
      size = Int(min(Double(count), (settings.taskSeconds / max(expected, 0.001)).rounded(.up)))
    } else {
      size = (count + settings.tasks - 1) / settings.tasks
    }
    size = max(1, size, (count + maxArraySize - 1) / maxArraySize)
    // As many tasks as that takes, all of about one length.
    let tasks = (count + size - 1) / size
    return (0..<tasks).map { Array(assignments[count * $0 / tasks..<count * ($0 + 1) / tasks]) }
  }

  /// The options for `sbatch`; the script comes last.
  func arguments(_ settings: SlurmSettings, folder: String) -> [String] {
    let ranks = tasks[0][0].action.ranks
    let processors = max(1, tasks[0][0].grant.threads / ranks)
    let gpus = tasks[0][0].gpus
    // Ranks may lie on several nodes, if one hasn't the room; those with a GPU each, as many as give that.
    var nodes = ranks == 1 ? ["--nodes=1"] : []
    if ranks > 1, gpus > 0 {
      nodes = ["--nodes=\((ranks + gpus - 1) / gpus)", "--ntasks-per-node=\(min(ranks, gpus))"]
    }
    var result = [
      "--job-name=\(batch.id)", "--export=NONE", "--requeue", "--open-mode=append", "--ntasks=\(ranks)",
      "--chdir=\(folder)", "--output=\(batch.folder)/%a.log",
      "--array=0-\(tasks.count - 1)" + (settings.atOnce.map { "%\($0)" } ?? ""),
      "--cpus-per-task=\(processors)",
    ]
    result.insert(contentsOf: nodes, at: 0)
    if gpus > 0 { result.append("--gres=gpu:\(gpus)") }
    if let memory {
      let shares = ranks == 1 ? 1 : ranks * processors
      let size = (memory / shares + 1_048_575) / 1_048_576
      result.append(ranks == 1 ? "--mem=\(size)M" : "--mem-per-cpu=\(size)M")
    }
    // The worker keeps each action's timeout; Slurm's limit is for a node that does not answer.
    let limits = tasks.map { $0.map(\.timeout) }
    if !limits.joined().contains(where: { $0 == nil }) {
      let seconds = limits.map { $0.reduce(0) { $0 + ($1 ?? 0) } }.max() ?? 0
      result.append("--time=\(Int(min(seconds, 3e8) / 60) + 2)")
    }
    return result + settings.arguments
  }

  /// What each task runs.
  static func script(
    program: String, store: Store, batch: Batch, ranks: Int, environment: [String: String]
  ) -> String {
    script(
      [program, "exec", "--cache", store.root, "--batch", batch.id], ranks: ranks, environment: environment)
  }

  /// A script that becomes the program `words`, with what goes along of the submitter's environment. On several nodes `mpirun`
  /// starts its own part by `srun`, which must not keep its environment back.
  static func script(_ words: [String], ranks: Int, environment: [String: String]) -> String {
    func quoted(_ text: String) -> String { "'" + text.replacingOccurrences(of: "'", with: #"'\''"#) + "'" }
    let lines =
      ["#!/bin/sh"] + (ranks == 1 ? [] : ["unset SLURM_EXPORT_ENV"])
      + JobEnvironment.selection(of: environment).map { "export \($0.name)=\(quoted($0.value))" }
      + ["exec " + words.map(quoted).joined(separator: " "), ""]
    return lines.joined(separator: "\n")
  }
}
