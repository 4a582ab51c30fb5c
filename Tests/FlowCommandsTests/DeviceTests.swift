import FlowTestSupport
import Foundation
import Testing

/// Devices that are asked for where there are none.
@Suite struct DeviceTests {
  /// No library of CUDA's is found there, on a machine with a GPU neither.
  private static let bare = ["FLOW_CUDA_PATH": "/nowhere"]

  @Test func aRunThatAsksForCUDAEndsBeforeAnythingIsDone() throws {
    let shell = try Shell(
      pipeline: Shell.small.replacingOccurrences(
        of: "outputs: { f0: f0.f0 }",
        with: """
            train-vocoder:
              in: { audio: sing.vocals }
              with: { steps: 2, frames: 1, device: cuda }
          outputs: { weights: train-vocoder.weights }
          """
      ).replacingOccurrences(of: "\n  outputs: { weights", with: "\noutputs: { weights"))
    let result = try shell.run(["run", "pipelines/p.yaml"], environment: DeviceTests.bare)
    #expect(result.code == 2)
    #expect(result.error.contains("E035"))
    #expect(result.error.contains("stage 'train-vocoder' asks for 'device: cuda'"))
    #expect(result.error.contains("libcuda"))
    #expect(!FileManager.default.fileExists(atPath: shell.folder.path + "/runs"))
    // What doesn't need it runs.
    #expect(
      try shell.run(["run", "pipelines/p.yaml", "--to", "f0"], environment: DeviceTests.bare).code == 0)
  }

  @Test func autoTakesTheCPUAndSaysSo() throws {
    let shell = try SampleTests.project()
    let options = [
      "sample", "m", "--latents", "l.safetensors", "--lyrics", "words.txt", "--frames", "10", "--steps", "2",
    ]
    let auto = try shell.run(options + ["--device", "auto"], environment: DeviceTests.bare)
    #expect(auto.code == 0)
    #expect(auto.error.contains("computes on the CPU") && auto.error.contains("libcuda"))
    let first = try Data(contentsOf: URL(fileURLWithPath: shell.folder.path + "/l.safetensors"))
    #expect(try shell.run(options).code == 0)
    #expect(try Data(contentsOf: URL(fileURLWithPath: shell.folder.path + "/l.safetensors")) == first)
    let cuda = try shell.run(options + ["--device", "cuda"], environment: DeviceTests.bare)
    #expect(cuda.code == 2)
    #expect(cuda.error.contains("E035") && cuda.error.contains("--device auto"))
  }
}
