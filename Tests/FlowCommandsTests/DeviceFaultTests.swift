import FlowTestSupport
import Foundation
import Testing

/// What goes wrong with CUDA devices, by the program: what it says, its exit code, and what is left. Faults are the stand-ins'
/// (`FLOW_SHIM_FAULT`); `FlowTensorCUDATests` has each of them at its place.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
struct DeviceFaultTests {
  private static func project() throws -> Shell {
    let shell = try Shell(bare: true)
    try shell.folder.write("songs/a.wav", SmallVocoder.wave)
    try shell.folder.write("p.yaml", SmallVocoder.pipeline(steps: 4))
    return shell
  }

  /// `flow run` on a device with `fault`.
  private static func run(
    _ shell: Shell, _ fault: String, _ command: [String] = ["run", "p.yaml", "--quiet"],
    cubins: String? = nil
  ) throws -> Shell.Output {
    let folder = CUDAShim.folder ?? ""
    return try shell.run(
      command,
      environment: [
        "FLOW_CUDA_PATH": folder, "FLOW_SHIM_FAULT": fault, "FLOW_KERNEL_CACHE": cubins ?? folder + "/cubins",
        "CUDA_VISIBLE_DEVICES": "0",
      ])
  }

  @Test(arguments: [
    ("driver=11040", "supports CUDA 11.4, which is too old"), ("no-device", "No usable GPU is visible"),
  ])
  func whatIsKnownBeforehandRunsNothing(_ fault: String, _ words: String) throws {
    let shell = try DeviceFaultTests.project()
    let result = try DeviceFaultTests.run(shell, fault)
    #expect(result.code == 2 && result.error.contains("E035") && result.error.contains(words), "\(result)")
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/p.lock.yaml"))
    let auto = ["--set", "stages.train.with.device=auto"]
    #expect(try DeviceFaultTests.run(shell, fault, ["run", "p.yaml", "--quiet"] + auto).code == 0)
    let log = try DeviceFaultTests.run(shell, fault, ["log", "p.yaml", "train"] + auto)
    #expect(log.out.contains("computes on the CPU") && log.out.contains(words), "\(log)")
  }

  @Test(arguments: [
    ("exclusive", "Another process may hold the GPU alone"),
    ("compile", "does not compile for sm_80"), ("oom-at=3000000", "lower 'batch'"),
  ])
  func whatShowsInAStageIsSaidAndFails(_ fault: String, _ words: String) throws {
    let shell = try DeviceFaultTests.project()
    let result = try DeviceFaultTests.run(shell, fault, cubins: fault == "compile" ? "" : nil)
    #expect(result.code == 1 && result.out.contains("train: ") && result.out.contains(words), "\(result)")
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs/p/weights"))
  }

  @Test func afterALostDeviceTheNextRunGoesOnFromTheCheckpoint() throws {
    let shell = try DeviceFaultTests.project()
    // By a launch of a kernel that comes after a step was kept.
    var launch = 400
    while RankedRunTests.checkpoint(shell) == nil {
      launch += 200
      let lost = try DeviceFaultTests.run(shell, "lost-at=\(launch)")
      // Another failure would end no sooner with more launches.
      let words = "lost to this process; the last checkpoint is as it was"
      try #require(lost.code == 1 && lost.out.contains(words), "\(lost)")
    }
    #expect(try DeviceFaultTests.run(shell, "").code == 0)
    let log = try DeviceFaultTests.run(shell, "", ["log", "p.yaml", "train"])
    #expect(log.out.contains("resumed at step"), "\(log)")
    let whole = try DeviceFaultTests.project()
    #expect(try DeviceFaultTests.run(whole, "").code == 0)
    let results = [shell, whole].map { $0.folder.read("runs/p/losses/losses.csv") }
    #expect(results[0] != nil && results[0] == results[1])
    let weights = [shell, whole].map { $0.folder.read("runs/p/weights/decoder.safetensors") }
    #expect(weights[0] != nil && weights[0] == weights[1])
  }
}
