import ArgumentParser
import FlowCore
import FlowEngine
import FlowMPI
import FlowPlan
import FlowStageKit
import FlowStages
import FlowStore
import Foundation

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Checks the machine and the project: libraries, tools, stages, cache, settings.",
    discussion: "FAIL needs mending (exit code 4); 'none' is something that only some commands need.")
  @Flag(name: .long, help: "Prints one JSON document.") var json = false
  @Option(name: .long, help: "Starts so many ranks, as a training with 'ranks' does, and tries them.")
  var ranks: Int?

  func validate() throws {
    if let ranks, !(2...4096).contains(ranks) {
      throw ValidationError("--ranks takes a number from 2 to 4096")
    }
  }

  func run() async throws {
    let root = Project.root(from: nil)
    let checks =
      Libraries.checks().map {
        Check(name: $0.name, ok: $0.ok, detail: $0.detail, help: $0.ok ? nil : $0.help)
      }
      + [
        Doctor.cache(root), Doctor.memory, Doctor.stages(root), Doctor.tool("git", "git", "'flow diff'"),
      ]
      + [
        Doctor.tool("rclone", "rclone", "'flow cache push' and 'pull'"),
        Doctor.tool("espeak-ng", "espeak-ng", "English lyrics (else flow's own rules read them)"),
        Doctor.slurm, Doctor.mpi(ranks),
      ]
      + [Doctor.sandbox, Doctor.merging, Doctor.remote(root)]
    if json {
      Terminal.out(
        JSON.object([
          "schema": "flow.doctor/1",
          "checks": .array(
            checks.map {
              [
                "name": .string($0.name), "ok": .bool($0.ok), "detail": .string($0.detail),
                "help": $0.help.map { .string($0) } ?? .null,
              ]
            }),
        ]).pretty)
    } else {
      for check in checks {
        // Not a fault, but with advice: something that is not there and need not be.
        let state = check.ok ? (check.help == nil ? "ok  " : "none") : "FAIL"
        Terminal.out("\(state) \(Terminal.padded(check.name, 12)) \(check.detail)")
        if let help = check.help { Terminal.out("     help: \(help)") }
      }
    }
    if checks.contains(where: { !$0.ok }) { throw ExitCode(4) }
  }

  private typealias Check = Libraries.Check

  private static func cache(_ root: String) -> Check {
    do {
      let store = try Project.store(root)
      try store.publish([1], at: store.root + "/tmp/doctor")
      unlink(store.root + "/tmp/doctor")
      let free =
        try FileManager.default.attributesOfFileSystem(forPath: store.root)[.systemFreeSize] as? Int ?? 0
      let fast = "; FLOW_DURABILITY=fast: a power cut may lose the last runs and tear laid-out results"
      return Check(
        name: "cache", ok: free > 1 << 30,
        detail:
          "\(store.root) is writable, \(free / 1_048_576) MiB free\(store.durability == .fast ? fast : "")",
        help: free > 1 << 30 ? nil : "flow cache gc --budget 500")
    } catch {
      return Check(name: "cache", ok: false, detail: "\(error)", help: "make \(root)/cache writable")
    }
  }

  private static var memory: Check {
    let memory = Int(ProcessInfo.processInfo.physicalMemory / 1_048_576)
    let processors = ProcessInfo.processInfo.activeProcessorCount
    return Check(
      name: "memory", ok: memory > 2000, detail: "\(memory) MiB, \(processors) processors",
      help: memory > 2000 ? nil : "training the tiny preset takes about 400 MiB, the demo 2000 MiB in all")
  }

  /// The declarations, and whether each native one is built in.
  private static func stages(_ root: String) -> Check {
    do {
      let catalog = try Project.catalog(root)
      let built = Set(AllStages.list.map(\.name))
      let missing = catalog.names.filter { catalog[$0]?.run == .native && !built.contains($0) }
      return Check(
        name: "stages", ok: missing.isEmpty,
        detail: missing.isEmpty
          ? "\(catalog.names.count) declared, \(built.count) of them built in"
          : "declared native but not built in: \(missing.joined(separator: ", "))",
        help: missing.isEmpty ? nil : "rebuild flow, or take those declarations away")
    } catch let error as Diagnostics {
      return Check(
        name: "stages", ok: false, detail: error.all.first?.message ?? "can't be read",
        help: "flow validate says where")
    } catch {
      return Check(name: "stages", ok: false, detail: "\(error)", help: nil)
    }
  }

  /// A program that some command needs.
  private static func tool(_ name: String, _ package: String, _ user: String) -> Check {
    guard let path = Programs.find(name) else {
      return Check(
        name: name, ok: true, detail: "not found; only \(user) needs it",
        help: "sudo apt-get install \(package)")
    }
    return Check(name: name, ok: true, detail: path, help: nil)
  }

  /// Whether git knows how to merge lock files here.
  private static var merging: Check {
    guard let inside = try? Git.run(["rev-parse", "--is-inside-work-tree"]), inside.status == 0 else {
      return Check(name: "lock merges", ok: true, detail: "not in a git repository", help: nil)
    }
    let driver = (try? Git.run(["config", "merge.flow-lock.driver"]))?.out.trimmingCharacters(
      in: .whitespacesAndNewlines)
    let attribute = (try? Git.run(["check-attr", "merge", "--", "pipelines/p.lock.yaml"]))?.out ?? ""
    if let driver, !driver.isEmpty, attribute.contains("flow-lock") {
      return Check(name: "lock merges", ok: true, detail: driver, help: nil)
    }
    return Check(
      name: "lock merges", ok: true, detail: "git merges lock files line by line",
      help: "'flow help git' has the three commands that make it merge by stage")
  }

  private static func remote(_ root: String) -> Check {
    guard let found = try? RemoteOptions.address(nil, root: root) else {
      return Check(
        name: "remote", ok: true, detail: "none is set", help: "flow cache remote s3:bucket/flow, or a folder"
      )
    }
    return Check(name: "remote", ok: true, detail: "\(found.address) (\(found.origin))", help: nil)
  }

  private static var slurm: Check {
    Check(
      name: "slurm", ok: true, detail: "\(SlurmExecutor.found()) (only '--on slurm' needs it)", help: nil)
  }

  private static func mpi(_ ranks: Int?) -> Check {
    let help = "sudo apt-get install \(RankLauncher.package)"
    do {
      let (version, launcher) = (try OpenMPI.version(), Programs.find("mpirun"))
      guard launcher != nil else {
        return Check(
          name: "mpi", ok: ranks == nil, detail: "\(version), but no mpirun; only 'ranks' needs it",
          help: help)
      }
      guard let ranks else {
        return Check(name: "mpi", ok: true, detail: "\(version) (only 'ranks' needs it)", help: nil)
      }
      let found = try RankCheck.run(ranks: ranks)
      let size = Double(found.floats) * 4 / 1_048_576
      return Check(
        name: "mpi", ok: true,
        detail: "\(version): \(ranks) ranks agree"
          + String(format: "; a sum of %.0f MiB takes %.1f ms", size, found.seconds * 1e3)
          + (found.devices.map { "; \($0)" } ?? ""), help: nil)
    } catch let error as MPIError {
      return Check(
        name: "mpi", ok: ranks == nil, detail: "not found; only 'ranks' needs it (\(error))", help: help)
    } catch {
      return Check(name: "mpi", ok: false, detail: "\(error)", help: help)
    }
  }

  private static var sandbox: Check {
    Check(
      name: "sandbox", ok: true,
      detail: CommandSandbox.version.map { "Landlock, version \($0): commands see only what they declare" }
        ?? "this kernel has no Landlock: commands can read undeclared files", help: nil)
  }
}
