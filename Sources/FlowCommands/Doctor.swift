import ArgumentParser
import FlowCore
import FlowEngine
import FlowStages
import FlowStore
import Foundation

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks the machine: libraries, soundfont, cache, memory.")
  @Flag(name: .long, help: "Prints one JSON document.") var json = false

  func run() async throws {
    var checks = Libraries.checks()
    let root = Project.root(from: nil)
    do {
      let store = try Project.store(root)
      try store.publish([1], at: store.root + "/tmp/doctor")
      let free =
        try FileManager.default.attributesOfFileSystem(forPath: store.root)[.systemFreeSize] as? Int ?? 0
      checks.append(
        .init(
          name: "cache", ok: free > 1 << 30,
          detail: "\(store.root) is writable, \(free / 1_048_576) MiB free",
          help: free > 1 << 30 ? nil : "flow cache gc --budget 500"))
    } catch {
      checks.append(.init(name: "cache", ok: false, detail: "\(error)", help: "make \(root)/cache writable"))
    }
    let memory = Int(ProcessInfo.processInfo.physicalMemory / 1_048_576)
    checks.append(
      .init(
        name: "memory", ok: memory > 2000,
        detail: "\(memory) MiB, \(ProcessInfo.processInfo.activeProcessorCount) processors", help: nil))
    checks.append(.init(name: "cuda", ok: true, detail: "not built yet: training runs on the CPU", help: nil))
    checks.append(
      .init(
        name: "sandbox", ok: true,
        detail: CommandSandbox.version.map { "Landlock, version \($0): commands see only what they declare" }
          ?? "this kernel has no Landlock: commands can read undeclared files", help: nil))
    let rclone = Rclone.find()
    checks.append(
      .init(
        name: "rclone", ok: true,
        detail: rclone
          ?? "not found: needed for 'flow cache push' and 'pull' only (sudo apt-get install rclone)",
        help: nil))
    checks.append(
      .init(
        name: "slurm", ok: true, detail: "\(SlurmExecutor.found()) (only '--on slurm' needs it)", help: nil))
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
        Terminal.out(
          "\(check.ok ? "ok  " : "FAIL") \(check.name.padding(toLength: 12, withPad: " ", startingAt: 0)) \(check.detail)"
        )
        if let help = check.help, !check.ok { Terminal.out("     help: \(help)") }
      }
    }
    if checks.contains(where: { !$0.ok }) { throw ExitCode(4) }
  }
}
