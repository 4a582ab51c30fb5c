import FlowOpTable
import FlowTensor
import Testing

/// Every op's kernels, compiled for the CPU, against the references in double precision.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct OpTableTests {
  @Test(arguments: OpCase.all, Shim.Mode.allCases)
  func kernelsMatchTheReference(_ test: OpCase, _ mode: Shim.Mode) throws {
    let device = try mode.device()
    for found in try test.deviations(on: device, seed: 11, views: [test.view]) {
      #expect(
        found.worst <= device.tolerance,
        "\(found.view), output or gradient \(found.index): off by \(found.worst)")
    }
  }
}
