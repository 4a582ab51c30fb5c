import CProcess
import Foundation
import Synchronization

/// Why a remote cache could not be used.
public enum RemoteError: Error, Sendable, Hashable {
  /// There is no program `rclone`.
  case noRclone
  /// rclone could not do it: the remote, and what it said last.
  case failed(remote: String, said: String)
  /// There is nothing at the remote.
  case nothingThere(remote: String)
  /// The run was interrupted; what had arrived stays.
  case interrupted
}

/// Programs on this machine.
public enum Programs {
  /// Where a program is; `nil` when it is nowhere in PATH.
  public static func find(_ name: String) -> String? {
    let search = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return search.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }
}

/// The program `rclone`, one call at a time. It dies with the thread that called it.
final class Rclone: Sendable {
  private let program: String
  private let folder: String
  private let remote: String
  private let running = Atomic<Int32>(0)
  private let stopped = Atomic<Bool>(false)

  /// - Parameters:
  ///   - folder: where its lists and logs go.
  ///   - remote: as rclone understands it; `name:path`, `:backend,option=value:path`, or a local folder.
  /// - Throws: `RemoteError.noRclone`.
  init(folder: String, remote: String) throws(RemoteError) {
    guard let found = Programs.find("rclone") else { throw .noRclone }
    (program, self.folder, self.remote) = (found, folder, remote)
  }

  /// A place within the remote.
  func at(_ path: String) -> String {
    remote.hasSuffix("/") || remote.hasSuffix(":") ? remote + path : remote + "/" + path
  }

  /// Ends what is running.
  func cancel() {
    stopped.store(true, ordering: .sequentiallyConsistent)
    let group = running.load(ordering: .sequentiallyConsistent)
    if group > 0 { kill(-group, SIGTERM) }
  }

  /// Writes the list that `--files-from-raw` reads; its path.
  func list(_ names: [String]) throws(RemoteError) -> String {
    let path = folder + "/names"
    guard
      FileManager.default.createFile(
        atPath: path, contents: Data((names.joined(separator: "\n") + "\n").utf8))
    else { throw .failed(remote: remote, said: "can't write \(path)") }
    return path
  }

  /// Runs rclone; what it printed. Nothing where the remote has no such folder and `orNothing` is set.
  /// - Throws: `RemoteError`.
  func run(_ words: [String], orNothing: Bool = false) throws(RemoteError) -> String {
    let (outPath, logPath) = (folder + "/out", folder + "/log")
    unlink(logPath)
    let out = open(outPath, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard out >= 0 else { throw .failed(remote: remote, said: "can't write \(outPath)") }
    defer { close(out) }
    let all: [String] =
      [program] + words + [
        "--log-file", logPath, "--log-level", "ERROR", "--ask-password=false", "--contimeout", "15s",
        "--timeout", "60s", "--retries", "2", "--low-level-retries", "3", "--transfers", "8", "--checkers",
        "16",
      ]
    var arguments: [UnsafeMutablePointer<CChar>?] = all.map { word in strdup(word) } + [nil]
    // The user's settings for rclone are in the environment, so it goes along whole.
    var variables: [UnsafeMutablePointer<CChar>?] =
      ProcessInfo.processInfo.environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in arguments + variables { free(text) } }
    var failure: Int32 = 0
    let child = flow_spawn(program, &arguments, &variables, ".", out, -1, &failure)
    guard child > 0 else { throw .failed(remote: remote, said: String(cString: strerror(failure))) }
    running.store(child, ordering: .sequentiallyConsistent)
    if stopped.load(ordering: .sequentiallyConsistent) { kill(-child, SIGTERM) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    running.store(0, ordering: .sequentiallyConsistent)
    if stopped.load(ordering: .sequentiallyConsistent) { throw .interrupted }
    let printed =
      FileManager.default.contents(atPath: outPath).map { String(decoding: $0, as: UTF8.self) } ?? ""
    if status == 0 { return printed }
    // Its exit code for a folder that is not there.
    if orNothing, (status >> 8) & 0xFF == 3 { return "" }
    let log =
      FileManager.default.contents(atPath: logPath).map { String(decoding: $0, as: UTF8.self) } ?? printed
    throw .failed(remote: remote, said: Rclone.last(log))
  }

  /// The last lines of a log, without their times.
  private static func last(_ log: String) -> String {
    let lines = log.split(separator: "\n").suffix(3).map {
      $0.replacing(#/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /#, with: "")
    }
    return lines.isEmpty ? "it said nothing" : lines.joined(separator: "\n")
  }
}
