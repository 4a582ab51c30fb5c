import FlowStageKit
import Foundation

/// How a worker of several ranks is started: by Open MPI's `mpirun`, here or on the nodes of a cluster's job. It ends all
/// ranks when one dies, and passes standard input on to rank 0 only.
public enum RankLauncher {
  /// What brings `mpirun` and its library.
  public static let package = "openmpi-bin"

  /// The command (a path and its arguments) that starts `ranks` of `worker`.
  /// - Throws: `StageFailure` when there is no `mpirun`.
  public static func command(
    _ worker: [String], ranks: Int, environment: [String: String]
  ) throws -> [String] {
    guard let path = Programs.find("mpirun") else {
      throw StageFailure(
        "\(ranks) ranks are asked for, and there is no 'mpirun' on the PATH",
        help: "sudo apt-get install \(package)")
    }
    // Each rank has threads, which may go wherever the kernel likes; how many ranks fit is ours to say, or Slurm's.
    var words = [path, "--bind-to", "none", "--oversubscribe", "-np", "\(ranks)"]
    if geteuid() == 0 { words.append("--allow-run-as-root") }
    // Ranks on other nodes get these too.
    for (name, _) in JobEnvironment.selection(of: environment) { words += ["-x", name] }
    return words + worker + ["--ranks", "\(ranks)"]
  }

  /// Starts the launcher by `start` so that signals which ask for an end don't reach it: a cluster sends them to every process
  /// of a job, and ranks are to get to their checkpoint, as the engine tells them.
  static func deafToInterrupts(_ start: () throws -> Void) rethrows {
    var (signals, before) = (sigset_t(), sigset_t())
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
    // What this thread holds back, its children do.
    pthread_sigmask(SIG_BLOCK, &signals, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try start()
  }

  /// The rank that a signal ended, if the launcher says so.
  static func signalled(_ text: String) -> (rank: Int, signal: Int32)? {
    let words = text.replacing("\n", with: " ")
    let match = words.firstMatch(
      of: #/process rank (\d+) with PID \d+ on node \S+\s+exited on\s+signal (\d+)/#)
    guard let match, let rank = Int(match.1), let number = Int32(match.2) else { return nil }
    return (rank, number)
  }

  /// What matters of the lines that `mpirun` and the ranks wrote to standard error: a rank's own words before the launcher's,
  /// which come in frames of dashes.
  public static func gist(_ text: String) -> String {
    let lines = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
      .filter { !$0.isEmpty && !$0.allSatisfy { $0 == "-" } }
    let own = lines.filter { $0.hasPrefix("Error: ") || $0.hasPrefix("flow: ") }
    let launcher = lines.filter {
      $0.contains("noticed that process rank") || $0.contains("exited on signal")
    }
    return [own, launcher, lines].first { !$0.isEmpty }.map { $0.suffix(3).joined(separator: " ") } ?? ""
  }
}
