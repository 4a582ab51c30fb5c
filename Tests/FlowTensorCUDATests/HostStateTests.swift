import FlowNN
import FlowTensor
import FlowTensorCUDA
import FlowTestSupport
import Foundation
import Testing

/// What the optimiser keeps, in the host's memory.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct HostStateTests {
  private struct Stop: Error {}

  /// What the device has given after a training was made.
  private static func used(_ state: MemoryPlace, average: Double? = nil) throws -> (
    loop: TrainingLoop, bytes: Int
  ) {
    let backend = try CUDABackend(precision: .bfloat16)
    let before = try backend.memory().free
    let loop = try SmallTraining.loop(on: backend, state: state, average: average)
    return (loop, before - (try backend.memory().free))
  }

  /// A process of its own, as others take memory too; nothing in it is chosen by time, as what is chosen takes memory of its own.
  @Test(arguments: [nil, 0.9]) func itTakesTheDevicesMemoryNoMoreAndHasTheSameBits(average: Double?) async {
    await #expect(processExitsWith: .success) { [average] in
      setenv("FLOW_TRIALS", "0", 1)
      try #require(Shim.isThere)
      let own = try HostStateTests.used(.device, average: average)
      let hosts = try HostStateTests.used(.host, average: average)
      #expect(own.bytes - hosts.bytes == (average == nil ? 2 : 3) * SmallTraining.momentBytes)
      try own.loop.run()
      try hosts.loop.run()
      #expect(try hosts.loop.checkpoint() == own.loop.checkpoint())
      #expect(own.loop.history.count == 6 && own.loop.history[5].loss < own.loop.history[0].loss)
    }
  }

  @Test(arguments: [MemoryPlace.device, .host]) func itIsTakenUpFromTheOtherMemory(first: MemoryPlace) throws
  {
    let whole = try HostStateTests.used(first).loop
    try whole.run()
    let part = try HostStateTests.used(first).loop
    #expect(throws: Stop.self) { try part.run { if $0.step == 2 { throw Stop() } } }
    let rest = try HostStateTests.used(first == .host ? .device : .host).loop
    try rest.restore(Data(part.checkpoint()))
    #expect(rest.nextStep == 3)
    try rest.run()
    #expect(try rest.checkpoint() == whole.checkpoint())
  }

  @Test func aHostThatHasTooLittleIsToldOf() async {
    await #expect(processExitsWith: .success) {
      setenv("FLOW_SHIM_FAULT", "host-oom-at=10000", 1)
      try #require(Shim.isThere)
      let backend = try CUDABackend(precision: .float32)
      let error = try #require(throws: TensorError.self) {
        try SmallTraining.loop(on: backend, state: .host)
      }
      guard case .outOfMemory(let bytes, let purpose) = error else { throw error }
      #expect(bytes == 30 * 70 * 4 && purpose.contains("'optimizer.v.a'") && purpose.contains("host"))
      // The device is as it was.
      let loop = try SmallTraining.loop(on: backend, steps: 2)
      try loop.run()
    }
  }
}
