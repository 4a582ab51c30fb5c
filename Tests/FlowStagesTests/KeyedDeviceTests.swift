import FlowPlan
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

/// What stages compute on is what their keys name. A process each: which device there is, is the environment's to say.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here")) struct KeyedDeviceTests {
  private static func context(_ device: KeyedDevice?, fault: String = "") throws -> (
    StageContext, FolderIO
  ) {
    setenv("FLOW_CUDA_PATH", try #require(CUDAShim.folder), 1)
    setenv("FLOW_SHIM_FAULT", fault, 1)
    let io = try FolderIO(root: try TemporaryFolder().path)
    let declaration = try #require(try StageContract.catalog.get()["train-flow"])
    return (StageContext(declaration: declaration, inputs: [:], threads: 1, device: device, io: io), io)
  }

  @Test func theOneThatIsNamedIsTaken() async {
    await #expect(processExitsWith: .success) {
      let (context, _) = try KeyedDeviceTests.context(
        .cuda("the CPU, as a CUDA device (sm_80, 8 GiB), nvrtc 13.99, cublasLt 13.0.0"))
      for kind in [DeviceKind.auto, .cuda] {
        #expect(Devices.name(of: try context.backend(kind, .float32), ranks: 1) != nil)
      }
    }
  }

  @Test func anotherIsRefusedAndBothAreNamed() async {
    await #expect(processExitsWith: .success) {
      let (context, _) = try KeyedDeviceTests.context(.cuda("NVIDIA H200 (sm_90, 139 GiB), nvrtc 13.0"))
      for kind in [DeviceKind.auto, .cuda] {
        let error = try #require(throws: StageFailure.self) { try context.backend(kind, .float32) }
        #expect(
          error.message.contains("it runs on the CPU, as a CUDA device (sm_80, 8 GiB)")
            && error.message.contains("planned for NVIDIA H200"), "\(error)")
      }
    }
  }

  /// Not the CPU, whose bits would then lie under the device's key.
  @Test func autoDoesNotLeaveADeviceThatIsTaken() async {
    await #expect(processExitsWith: .success) {
      let (context, _) = try KeyedDeviceTests.context(.cuda("a card"), fault: "exclusive")
      let error = try #require(throws: StageFailure.self) { try context.backend(.auto, .float32) }
      #expect(error.message.contains("Another process"), "\(error)")
    }
  }

  /// Nor the other way round, on a node whose GPUs show although none was asked for.
  @Test func autoThatWasPlannedForTheCPUStaysThere() async {
    await #expect(processExitsWith: .success) {
      let (context, io) = try KeyedDeviceTests.context(.cpu)
      #expect(Devices.name(of: try context.backend(.auto, .float32), ranks: 1) == nil)
      #expect(io.log == ["computes on the CPU: it was given no CUDA device"])
    }
  }
}
