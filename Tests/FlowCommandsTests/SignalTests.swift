import FlowCore
import FlowTestSupport
import Foundation
import Testing

/// What `scripts/torture-signals` does at length.
@Suite struct SignalTests {
  static let training = Shell.sung(
    """
      train-vocoder: { in: { audio: normalise.audio }, with: { steps: 200 } }
    """,
    outputs: "{ weights: train-vocoder.weights }")

  @Test(arguments: [(Int32(SIGINT), Int32(130)), (Int32(SIGTERM), Int32(143)), (Int32(SIGHUP), Int32(129))])
  func aSignalEndsWithTheLastStepOnDisk(_ number: Int32, _ code: Int32) throws {
    let shell = try Shell(pipeline: SignalTests.training)
    let process = try shell.start(["run"])
    #expect(shell.wait { shell.error.contains("train-vocoder: 1 to run") })
    // Some steps in, nowhere near the next regular checkpoint.
    Thread.sleep(forTimeInterval: 2)
    kill(process.processIdentifier, number)
    process.waitUntilExit()
    #expect(process.terminationStatus == code)
    #expect(shell.out.contains("next: run the same command again"))
    let said = try shell("log", "train-vocoder").out
    let step = said.firstMatch(of: #/stopped after step (\d+)/#).flatMap { Int($0.1) } ?? 0
    #expect(step > 0, "\(said)")
    let again = try shell.start(["run", "--set", "stages.train-vocoder.timeout=120"])
    #expect(shell.wait { !again.isRunning || shell.error.contains("%") })
    kill(again.processIdentifier, SIGINT)
    again.waitUntilExit()
    #expect(try shell("log", "train-vocoder").out.contains("resumed at step \(step)"))
  }

  @Test func twoSignalsEndAtOnceAndNothingIsLeft() throws {
    let shell = try Shell(bare: true)
    try shell.folder.write(
      "stages/slow.yaml",
      "stage: slow\nversion: 1\ndoc: d.\nper: all\nrun: command\ncommand: [sh, -c, 'sleep 321 & sleep 321', x, '{out.o}']\noutputs: { o: { type: files, doc: d. } }\n"
    )
    try shell.folder.write("pipelines/p.yaml", "flow: 1\nstages: { slow: {} }\n")
    let process = try shell.start(["run"])
    #expect(shell.wait { shell.error.contains("slow: 1 to run") && !left(shell).isEmpty })
    kill(process.processIdentifier, SIGINT)
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationStatus == 130)
    #expect(shell.wait { left(shell).isEmpty }, "\(left(shell))")
  }

  /// The processes that work in the project's folder.
  private func left(_ shell: Shell) -> [String] {
    let own = URL(fileURLWithPath: shell.folder.path).resolvingSymlinksInPath().path
    return ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).filter { name in
      let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(name)/cwd")
      return Int(name) != nil && place?.hasPrefix(own + "/") ?? false
    }
  }
}
