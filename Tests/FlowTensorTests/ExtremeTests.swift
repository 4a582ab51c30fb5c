import FlowOpTable
import FlowTensorCPU
import Testing

@testable import FlowTensor

/// Numbers at the ends of the range: what overflows, vanishes or isn't a number in the reference does so in the kernels.
@Suite struct ExtremeTests {
  /// Cases where an infinite or undefined weight meets the zeros of padding, or an undefined value a masked key, or a
  /// moment that is infinite the difference to it: the kernel's result isn't a number, where the reference's is.
  private static func spreads(_ test: OpCase) -> Bool {
    ["conv", "attention", "fourier", "lstm"].contains { test.op.name.hasPrefix($0) } || test.op is AdamW
  }

  @Test(arguments: OpCase.all.filter { !$0.isEmpty }, Device.all.filter { $0.storage == .float32 })
  func extremeValuesGoThrough(_ test: OpCase, _ device: Device) throws {
    var plain = test
    plain.differentiable = false
    for input in test.extremes {
      // A fast transform leaves out what is 0 by symmetry, whatever the numbers are.
      let undefined: [Double] = test.op.name.hasPrefix("fourier") ? [] : [.nan, .infinity, -.infinity]
      for special in undefined + [test.large, -test.large, 1e-40, -1e-42, 0, -0.0] {
        var values = test.values(3)
        values[input][values[input].count / 2] = Double(Float(special))
        let got = try plain.run(values, on: device.backend)
        let want = try plain.reference(values)
        for (part, expected) in zip(got, want) {
          // What is a sum of large and small is as exact as the large is.
          let scale = expected.reduce(1) { $1.isFinite ? max($0, abs($1)) : $0 }
          let wrong = zip(part, expected).first {
            !agrees($0, $1, device.tolerance * scale, spreads: ExtremeTests.spreads(test))
          }
          #expect(wrong == nil, "\(special) in input \(input)")
        }
      }
    }
  }

  private func agrees(_ got: Float, _ want: Double, _ tolerance: Double, spreads: Bool) -> Bool {
    let rounded = Float(want)
    if want.isNaN { return got.isNaN }
    if spreads, got.isNaN { return true }
    if rounded.isInfinite || got.isInfinite { return got == rounded }
    // Subnormal results may be flushed.
    return abs(Double(got) - want) <= tolerance
  }
}
