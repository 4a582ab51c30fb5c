import FlowTensorCPU
import Testing

@testable import FlowTensor

extension Composition {
  static let sequences: [Composition] = [
    Composition("power spectrum", [[2, 14]]) { (x) throws(TensorError) in
      let spectrum = try x[0].rfft()
      return try spectrum.re * spectrum.im.square()
    },
    Composition("stft and its inverse", [[2, 37]]) { (x) throws(TensorError) in
      let frames = FrameShape(size: 8, hop: 2)
      let spectrum = try x[0].stft(frames)
      let bent = Spectrum(re: try spectrum.re * spectrum.power(), im: try spectrum.im * spectrum.re)
      return try bent.istft(frames, length: 37)
    },
    Composition("a window that is learnt", [[2, 21], [6]]) { (x) throws(TensorError) in
      let bins = try x[0].graph.apply(Fourier(hop: 3), [x[0], x[1]])
      let back = try x[0].graph.apply(FourierBack(hop: 3, length: 22), [bins[0], bins[1].square(), x[1]])
      return back[0]
    },
    Composition("lstm", [[4, 2, 3], [20, 3], [20, 5], [20], [20]], -0.8...0.8, smooth: false) {
      (x) throws(TensorError) in
      let names = ["weight_ih_l0": x[1], "weight_hh_l0": x[2], "bias_ih_l0": x[3], "bias_hh_l0": x[4]]
      let result = try x[0].lstm { (name) throws(TensorError) in
        guard let tensor = names[name] else { throw .parameter("no parameter '\(name)'") }
        return tensor
      }
      return try Tensor.concatenated([result.y, result.c, result.h], axis: 0)
    },
  ]
}

@Suite struct SpectrumTests {
  @Test func theInverseGivesTheSignalBack() throws {
    let graph = Graph()
    let x = try graph.input("x", [2, 1000])
    var outputs: [String: Tensor] = [:]
    for (name, frames) in [
      ("plain", FrameShape(size: 64, hop: 16)),
      ("normalized", FrameShape(size: 100, hop: 25, isNormalized: true)),
    ] {
      outputs[name] = try x.stft(frames).istft(frames, length: 1000)
    }
    outputs["rfft"] = try x.rfft().irfft(1000)
    let program = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend()))
    let values = (0..<2000).map { Float(($0 * 7919) % 1013) / 500 - 1 }
    let found = try program.run(["x": try HostTensor(values, [2, 1000])])
    for (name, signal) in found {
      let worst = zip(signal.floats, values).reduce(0) { max($0, abs($1.0 - $1.1)) }
      #expect(signal.floats.count == 2000 && worst < 1e-5, "\(name): \(worst)")
    }
  }

  @Test func windowsThatLeaveSamplesUncoveredAreRefused() throws {
    let graph = Graph()
    let spectrum = try graph.input("x", [100]).stft(FrameShape(size: 16, hop: 20))
    let error = #expect(throws: TensorError.self) {
      try spectrum.istft(FrameShape(size: 16, hop: 20), length: 90)
    }
    #expect(error?.description == "istft: the windows leave samples uncovered")
  }
}
