import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@testable import FlowTensor

/// Values and gradients of ops beside PyTorch's (`Tests/Golden/ops/make.py`).
@Suite struct TorchGolden {
  private struct Array: Decodable {
    let shape: [Int]
    let values: [Float]
  }
  private struct Record: Decodable {
    let inputs: [String: Array]
    let outputs: [String: Array]
    let weights: Array
    let gradients: [String: Array]
  }

  struct Case: CustomTestStringConvertible, Sendable {
    let testDescription: String
    /// The output that the gradients are of.
    let first: String
    let record: @Sendable ([String: Tensor]) throws -> [String: Tensor]
    init(
      _ name: String, first: String = "y",
      _ record: @escaping @Sendable ([String: Tensor]) throws -> [String: Tensor]
    ) {
      testDescription = name
      self.first = first
      self.record = record
    }
  }

  private static func one(_ tensor: Tensor?) throws -> Tensor { try #require(tensor) }

  static let cases: [Case] = convolutions + others + sequences

  private static let convolutions: [Case] = [
    Case("conv2d") { p in
      let shape = ConvolutionShape2D(stride: [3, 2], padding: [2, 1], dilation: [1, 2])
      return ["y": try one(p["x"]).conv2d(one(p["w"]), one(p["b"]), shape)]
    },
    Case("conv1d-groups") { p in
      ["y": try one(p["x"]).conv1d(one(p["w"]), one(p["b"]), stride: 2, padding: 3, groups: 3)]
    },
    Case("conv1d-reflect") { p in ["y": try one(p["x"]).conv1d(one(p["w"]), padding: 2, mode: .reflect)] },
    Case("conv1d-circular") { p in ["y": try one(p["x"]).conv1d(one(p["w"]), padding: 2, mode: .circular)] },
    Case("conv-transpose1d") { p in
      let (x, w, b) = (try one(p["x"]), try one(p["w"]), try one(p["b"]))
      return ["y": try x.convTranspose1d(w, b, stride: 3, padding: 2, dilation: 2, outputPadding: 1)]
    },
    Case("conv-transpose1d-groups") { p in
      let (x, w, b) = (try one(p["x"]), try one(p["w"]), try one(p["b"]))
      return ["y": try x.convTranspose1d(w, b, stride: 2, padding: 1, groups: 2, outputPadding: 1)]
    },
    Case("conv-transpose2d") { p in
      let shape = ConvolutionShape2D(stride: [2, 3], padding: [1, 0], groups: 2)
      return ["y": try one(p["x"]).convTranspose2d(one(p["w"]), one(p["b"]), shape, outputPadding: [1, 2])]
    },
  ]

  private static let others: [Case] = [
    Case("gelu") { p in ["y": try one(p["x"]).gelu()] },
    Case("gelu-tanh") { p in ["y": try one(p["x"]).gelu(approximate: true)] },
    Case("group-norm") { p in ["y": try one(p["x"]).groupNorm(3, one(p["weight"]), one(p["bias"]))] },
    Case("max-pool") { p in
      ["y": try one(p["x"]).maxPool2d(PoolShape([3, 2], stride: [2, 2], padding: [1, 1]))]
    },
    Case("average-pool") { p in
      ["y": try one(p["x"]).averagePool2d(PoolShape([3, 2], stride: [2, 2], padding: [1, 1]))]
    },
    Case("interpolate-nearest", first: "up") { p in
      let x = try one(p["x"])
      return ["up": try x.interpolated([17], .nearest), "down": try x.interpolated([3], .nearest)]
    },
    Case("interpolate-linear", first: "up") { p in
      let x = try one(p["x"])
      return ["up": try x.interpolated([17], .linear), "down": try x.interpolated([3], .linear)]
    },
    Case("interpolate-bilinear") { p in ["y": try one(p["x"]).interpolated([7, 3], .linear)] },
  ]

  private static let sequences: [Case] = {
    @Sendable func parts(_ spectrum: Spectrum, bins: Bool = false) throws -> [String: Tensor] {
      // torch's short-time transform has bins before frames.
      bins
        ? ["re": try spectrum.re.permuted([0, 2, 1]), "im": try spectrum.im.permuted([0, 2, 1])]
        : ["re": spectrum.re, "im": spectrum.im]
    }
    @Sendable func spectrum(_ p: [String: Tensor], bins: Bool = false) throws -> Spectrum {
      let (re, im) = (try one(p["re"]), try one(p["im"]))
      return bins
        ? Spectrum(re: try re.permuted([0, 2, 1]), im: try im.permuted([0, 2, 1])) : Spectrum(re: re, im: im)
    }
    @Sendable func lstm(_ p: [String: Tensor], layers: Int, both: Bool) throws -> [String: Tensor] {
      let result = try one(p["x"]).lstm(layers: layers, bidirectional: both) { (name) throws(TensorError) in
        guard let tensor = p[name] else { throw .parameter("no parameter '\(name)'") }
        return tensor
      }
      return ["y": result.y, "h": result.h, "c": result.c]
    }
    return [
      Case("rfft", first: "re") { p in try parts(one(p["x"]).rfft()) },
      Case("rfft-im", first: "im") { p in try parts(one(p["x"]).rfft()) },
      Case("irfft") { p in ["y": try spectrum(p).irfft(16)] },
      Case("irfft-odd") { p in ["y": try spectrum(p).irfft(15)] },
      Case("stft", first: "re") { p in try parts(one(p["x"]).stft(FrameShape(size: 32, hop: 8)), bins: true)
      },
      Case("stft-plain", first: "re") { p in
        let shape = FrameShape(size: 30, hop: 7, isCentered: false, isNormalized: true)
        return try parts(one(p["x"]).stft(shape), bins: true)
      },
      Case("stft-short-window", first: "re") { p in
        let shape = FrameShape(size: 32, hop: 8, window: FrameShape.hann(20))
        return try parts(one(p["x"]).stft(shape), bins: true)
      },
      Case("istft") { p in
        ["y": try spectrum(p, bins: true).istft(FrameShape(size: 32, hop: 8), length: 96)]
      },
      Case("ctc") { p in
        let x = try one(p["x"])
        let labels: [Int32] = [1, 2, 5, 3, 0, 4, 4, 4, 1, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0]
        let valid = [9, 7, 4, 5].flatMap { steps in (0..<9).map { Float($0 < steps ? 1 : 0) } }
        return [
          "y": try x.ctcLoss(
            x.graph.constant(HostTensor(labels, [4, 5])), valid: x.graph.constant(valid, [4, 9]))
        ]
      },
      Case("lstm") { p in try lstm(p, layers: 1, both: false) },
      Case("lstm-both") { p in try lstm(p, layers: 2, both: true) },
    ]
  }()

  @Test(arguments: cases)
  func valuesAndGradientsAreThoseOfTorch(_ test: Case) throws {
    guard let url = Golden.file("ops/\(test.testDescription).json") else { return }
    let golden = try JSONDecoder().decode(Record.self, from: Data(contentsOf: url))
    let graph = Graph()
    var inputs: [String: Tensor] = [:]
    var feed: [String: HostTensor] = [:]
    for (name, array) in golden.inputs {
      inputs[name] = try graph.input(name, array.shape)
      feed[name] = try HostTensor(array.values, array.shape)
    }
    var outputs = try test.record(inputs)
    #expect(outputs.keys.sorted() == golden.outputs.keys.sorted())
    let first = try TorchGolden.one(outputs[test.first])
    let loss = try (first * graph.constant(golden.weights.values, golden.weights.shape)).total()
    let names = golden.gradients.keys.sorted()
    let gradients = try graph.gradients(
      of: loss, withRespectTo: names.map { try TorchGolden.one(inputs[$0]) })
    for (name, gradient) in zip(names, gradients) { outputs["gradient of " + name] = gradient }
    let found = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend())).run(feed)
    var wanted = golden.outputs
    for (name, gradient) in golden.gradients { wanted["gradient of " + name] = gradient }
    for (name, want) in wanted {
      let got = try #require(found[name])
      #expect(got.shape == want.shape)
      let scale = want.values.reduce(1e-6) { max($0, abs($1)) }
      let worst = zip(got.floats, want.values).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
      #expect(worst <= 3e-6, "\(name): \(worst)")
    }
  }
}
