import FlowCore
import FlowEngine
import FlowTestSupport
import Foundation
import Testing

@testable import FlowCommands

private let canRun = Programs.find("mpirun") != nil && CUDAShim.folder != nil

/// Ranks on CUDA devices: the stand-ins for CUDA and NCCL, several devices, and processes that `mpirun` starts.
@Suite(.enabled(if: canRun, "mpirun is missing, or CUDA on the CPU can't be built here"), .serialized)
struct CUDARankTests {
  /// The environment of a machine with `devices` devices.
  private static func machine(_ devices: Int, libraries: String? = nil) -> [String: String] {
    let folder = CUDAShim.folder ?? ""
    return [
      "FLOW_CUDA_PATH": libraries ?? folder, "FLOW_SHIM_DEVICES": "\(devices)",
      "FLOW_KERNEL_CACHE": folder + "/cubins",
    ]
  }

  private static let training = Shell.sung(
    """
      train-vocoder: { in: { audio: normalise.audio }, with: { steps: 2, frames: 1 } }
      encode-latents: { in: { audio: normalise.audio, weights: train-vocoder.weights } }
      train-flow:
        in: { latents: encode-latents.latents }
        with: { steps: 8, frames: 20, dim: 32, depth: 2, heads: 2, checkpoint: 2, validate: 4, precision: float32 }
    """,
    outputs: "{ losses: train-flow.losses, weights: train-flow.weights }")

  /// A project of which all before the training has run: as in `other`, or here.
  private func project(as other: Shell? = nil) throws -> Shell {
    let shell = try Shell(pipeline: CUDARankTests.training)
    if let other {
      let cache = "/cache"
      try FileManager.default.copyItem(
        atPath: other.folder.path + cache, toPath: shell.folder.path + cache)
    } else {
      #expect(try shell("run", "--quiet", "--to", "encode-latents").code == 0)
    }
    return shell
  }

  private func options(_ ranks: Int, _ device: String, _ more: [String: String] = [:]) -> [String] {
    let all = more.merging(["ranks": "\(ranks)", "device": device]) { $1 }
    return ["run", "--quiet"]
      + all.sorted { $0.key < $1.key }.flatMap { ["--set", "stages.train-flow.with.\($0.key)=\($0.value)"] }
  }

  private func losses(_ shell: Shell) -> [Double] {
    let lines = shell.folder.text("runs/p/losses/losses.csv").split(separator: "\n").dropFirst()
    return lines.compactMap { Double($0.split(separator: ",", omittingEmptySubsequences: false)[1]) }
  }

  @Test func devicesHearEachOther() throws {
    let shell = try Shell(bare: true)
    let result = try shell.run(["doctor", "--ranks", "3"], environment: CUDARankTests.machine(3))
    #expect(result.out.contains("so do their CUDA devices (nccl"), "\(result)")
    let few = try shell.run(["doctor", "--ranks", "3"], environment: CUDARankTests.machine(2))
    #expect(
      few.out.contains("ranks 0 and 2 have the same GPU: 3 ranks run on a machine that shows them 2"),
      "\(few)")
  }

  @Test func twoDevicesTrainAsOneDoesAndAsTwoProcessors() throws {
    let shell = try project()
    for accumulation in ["1", "2"] {
      var curves: [[Double]] = []
      for (ranks, device) in [(1, "cuda"), (2, "cpu"), (2, "cuda")] {
        let run = try shell.run(
          options(ranks, device, ["accumulation": accumulation, "batch": "4"]),
          environment: CUDARankTests.machine(2))
        #expect(run.code == 0, "\(ranks) \(device): \(run.error) \(run.out)")
        curves.append(losses(shell))
      }
      #expect(curves.allSatisfy { $0.count == 8 } && curves[2] != curves[0])
      for other in curves[..<2] {
        for (a, b) in zip(other, curves[2]) { #expect(abs(a - b) <= 2e-5 * a, "\(accumulation): \(a), \(b)") }
      }
    }
  }

  @Test func theSameBytesTwiceAndAfterAKill() throws {
    let device = CUDARankTests.machine(2)
    var weights: [Data] = []
    let prepared = try project()
    for shell in [try project(as: prepared), try project(as: prepared)] {
      let run = try shell.run(options(2, "cuda"), environment: device)
      #expect(run.code == 0, "\(run.error)")
      weights.append(try #require(shell.folder.read("runs/p/weights/model.safetensors")))
    }
    #expect(weights[0] == weights[1])
    let shell = try project(as: prepared)
    let process = try shell.start(options(2, "cuda"), environment: device)
    #expect(shell.wait { RankedRunTests.checkpoint(shell) != nil || !process.isRunning })
    kill(try #require(RankedRunTests.rank(1, shell)), SIGKILL)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(shell.out.contains("rank 1 of 2 was killed"), "\(shell.out)")
    #expect(shell.wait { RankedRunTests.rank(0, shell) == nil && RankedRunTests.rank(1, shell) == nil })
    #expect(try shell.run(options(2, "cuda"), environment: device).code == 0)
    let log = try shell.run(["log", "train-flow"] + options(2, "cuda").dropFirst(2), environment: device)
    #expect(log.out.contains("resumed at step"), "\(log)")
    #expect(shell.folder.read("runs/p/weights/model.safetensors") == weights[0])
  }

  @Test func ranksThatCanNotHaveDevicesAreRefusedBeforeAnythingRuns() throws {
    let shell = try Shell(pipeline: CUDARankTests.training)
    let few = try shell.run(options(2, "cuda"), environment: CUDARankTests.machine(1))
    #expect(few.code == 2 && few.error.contains("E035"), "\(few)")
    #expect(few.error.contains("needs 2 GPUs, one for each rank, and there is one"), "\(few.error)")
    let folder = try TemporaryFolder()
    for name in ["libcuda.so.1", "libnvrtc.so", "libcublasLt.so"] {
      try FileManager.default.createSymbolicLink(
        atPath: folder.path + "/" + name, withDestinationPath: (CUDAShim.folder ?? "") + "/" + name)
    }
    let lacking = CUDARankTests.machine(2, libraries: folder.path)
    let none = try shell.run(options(2, "cuda"), environment: lacking)
    #expect(none.code == 2 && none.error.contains("E035"), "\(none)")
    #expect(none.error.contains("libnccl.so.2") && none.error.contains(folder.path), "\(none.error)")
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs"))
    let doctor = try shell.run(["doctor"], environment: lacking)
    #expect(doctor.out.contains("nccl") && doctor.out.contains("libnccl.so.2 was not found"), "\(doctor.out)")
  }
}
