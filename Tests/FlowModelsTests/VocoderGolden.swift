import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct VocoderGolden {
  @Test func forwardAndGradientsAgree() throws {
    guard let weights = try Reference("vocoder_tiny_weights"), let io = try Reference("vocoder_tiny"),
      let expected = try Reference("vocoder_tiny_grads")
    else { return }
    let config = try #require(io.config["generator"]).decode(VocoderConfig.self)
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let graph = Graph()
    let list = ParameterList(graph)
    let latent = try graph.input("latent", try io.shape("latent"))
    let (wave, taps) = try Vocoder(config, list.scope)(latent)
    let loss = try (wave - graph.input("target", try io.shape("target"))).abs().mean().reshaped([1])
    let gradients = try graph.gradients(of: loss, withRespectTo: list.declarations.map(\.tensor) + [latent])
    var outputs = ["wave": wave, "loss": loss]
    for (name, tap) in taps { outputs["mid." + name] = tap }
    for (name, gradient) in zip(list.declarations.map(\.name) + ["grad.latent"], gradients) {
      outputs[name] = gradient
    }
    let result = try Program(graph, outputs: outputs, parameters: store).run([
      "latent": io["latent"], "target": io["target"],
    ])
    for name in io.file.names where name.hasPrefix("mid.") || name == "wave" || name == "loss" {
      expectClose(result[name], try io[name], 1e-5, name)
    }
    expectClose(result["grad.latent"], try io["grad.latent"], 1e-4, "grad.latent")
    for name in expected.file.names { expectClose(result[name], try expected[name], 1e-4, name) }
    let buffers = try Vocoder.filterBuffers(config)
    #expect(Set(weights.file.names) == Set(list.declarations.map(\.name)).union(buffers.keys))
    for (name, buffer) in buffers { expectClose(buffer, try weights[name], 1e-6, name) }
  }

  @Test func chunkedDecodingAgrees() throws {
    guard let weights = try Reference("vocoder_tiny_weights"), let io = try Reference("vocoder_chunked")
    else { return }
    let config = try #require(io.config["generator"]).decode(VocoderConfig.self)
    let (overlap, chunk) = (Int(io.config["overlap"]?.number ?? 0), Int(io.config["chunk_size"]?.number ?? 0))
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let decoder = try VocoderDecoder(config, store: store, prefix: "")
    let latents = try io["latent"]
    let chunked = try decoder.decode(latents, chunk: chunk, overlap: overlap)
    expectClose(try HostTensor(chunked, [1, 1, chunked.count]), try io["wave"], 1e-5, "wave")
    let whole = try decoder.decode(latents, chunk: latents.shape[2], overlap: overlap)
    expectClose(try HostTensor(whole, [1, 1, whole.count]), try io["wave_unchunked"], 1e-5, "wave_unchunked")
    let first = latents.shape[1] * chunk
    let frames = latents.shape[2]
    let start = (0..<first).map { latents.floats[$0 / chunk * frames + $0 % chunk] }
    let one = try decoder.decode(
      HostTensor(start, [1, latents.shape[1], chunk]), chunk: chunk, overlap: overlap)
    expectClose(try HostTensor(one, [1, 1, one.count]), try io["wave_one_chunk"], 1e-5, "wave_one_chunk")
  }

  @Test func foldedWeightsAgree() throws {
    guard let weights = try Reference("vocoder_tiny_weights"), let io = try Reference("vocoder_tiny_fused")
    else { return }
    var split: [String: HostTensor] = [:]
    for name in weights.file.names { split[name] = try weights[name] }
    let folded = try Vocoder.folded(split, on: CPUBackend(threads: 2))
    for name in io.file.names { expectClose(folded[name], try io[name], 1e-6, name) }
    let pairs = split.keys.count { $0.hasSuffix(".weight_g") }
    #expect(folded.count == split.count - pairs)
    #expect(folded["conv_pre.bias"] == split["conv_pre.bias"])
    split["conv_pre.weight_g"] = nil
    #expect(throws: TensorError.self) { try Vocoder.folded(split, on: CPUBackend()) }
  }

  @Test func multiScaleMelLossAgrees() throws {
    guard let io = try Reference("multiscale_mel_loss") else { return }
    func ints(_ name: String) -> [Int] {
      guard case .array(let values)? = io.config[name] else { return [] }
      return values.map { Int($0.number ?? 0) }
    }
    let loss = MelLoss(
      samplingRate: Int(io.config["sampling_rate"]?.number ?? 0), windows: ints("windows"),
      bands: ints("n_mels"),
      floor: Float(io.config["clamp"]?.number ?? 0))
    let graph = Graph()
    let (x, y) = (try graph.input("x", io.shape("x")), try graph.input("y", io.shape("y")))
    let value = try loss(x, y)
    var outputs = [
      "loss": try value.reshaped([1]), "grad.y": try graph.gradients(of: value, withRespectTo: [y])[0],
    ]
    for (index, window) in loss.windows.enumerated() {
      let mel = try loss.mel(x, scale: index)
      outputs["mel.\(window)"] = try mel.permuted([0, 2, 1]).reshaped([
        x.shape[0], 1, loss.bands[index], mel.shape[1],
      ])
    }
    let store = ParameterStore(CPUBackend(threads: 2))
    let result = try Program(graph, outputs: outputs, parameters: store).run(["x": io["x"], "y": io["y"]])
    for name in io.file.names where name.hasPrefix("mel.") || name == "loss" {
      expectClose(result[name], try io[name], 1e-5, name)
    }
    expectClose(result["grad.y"], try io["grad.y"], 1e-4, "grad.y")
    for (window, bands) in zip(loss.windows, loss.bands) where io.file.names.contains("mel_basis.\(window)") {
      let basis = MelFilters.slaney(samplingRate: loss.samplingRate, fft: window, bands: bands)
      expectClose(
        try HostTensor(basis.flatMap { $0 }, [bands, window / 2 + 1]), try io["mel_basis.\(window)"], 1e-5,
        "mel_basis.\(window)")
    }
  }

  @Test func aliasFreeActivationAgrees() throws {
    guard let io = try Reference("alias_free_activation") else { return }
    for kind in ["snake.lin", "snake.log", "snakebeta.lin", "snakebeta.log"]
    where io.file.names.contains("\(kind).x") {
      let graph = Graph()
      let x = try graph.input("x", try io.shape("\(kind).x"))
      let alpha = try graph.input("alpha", try io.shape("\(kind).alpha"))
      let beta = kind.hasPrefix("snakebeta") ? try graph.input("beta", io.shape("\(kind).beta")) : nil
      let y = try x.aliasFreeSnake(alpha: alpha, beta: beta, logScale: kind.hasSuffix("log"))
      let scalar = try (y * graph.input("g", y.shape)).total()
      let upsampled = try upsampled(x)
      let targets = [x, alpha] + (beta.map { [$0] } ?? [])
      let gradients = try graph.gradients(of: scalar, withRespectTo: targets)
      var outputs = ["y": y, "upsampled": upsampled]
      for (name, gradient) in zip(["grad_x", "grad_alpha", "grad_beta"], gradients) {
        outputs[name] = gradient
      }
      var inputs = [
        "x": try io["\(kind).x"], "alpha": try io["\(kind).alpha"], "g": try io["\(kind).grad_y"],
      ]
      if beta != nil { inputs["beta"] = try io["\(kind).beta"] }
      let result = try Program(graph, outputs: outputs, parameters: ParameterStore(CPUBackend())).run(inputs)
      for name in outputs.keys {
        expectClose(result[name], try io["\(kind).\(name)"], 1e-5, "\(kind).\(name)")
      }
    }
  }

  /// The first of the activation's three steps, which it does within its kernel: edges repeated, every second sample
  /// put between by the filter, the edges cut off again.
  private func upsampled(_ x: Tensor) throws -> Tensor {
    let (channels, taps) = (x.shape[1], AliasFreeSnake.filter.count)
    let edge = taps / 2 - 1
    let filter = try x.graph.constant(
      (0..<channels).flatMap { _ in AliasFreeSnake.filter.map { 2 * $0 } }, [channels, 1, taps])
    return try x.padded(axis: 2, before: edge, after: edge, mode: .replicate)
      .convTranspose1d(filter, stride: 2, groups: channels)
      .sliced(axis: 2, from: 2 * edge + (taps - 2) / 2, count: 2 * x.shape[2])
  }

  @Test func resamplingFiltersAgree() throws {
    guard let io = try Reference("alias_free_activation") else { return }
    for name in io.file.names where name.hasPrefix("filter.") {
      // "up", "down" or "ratioR_kK"
      let numbers = name.split { !$0.isNumber }.compactMap { Int($0) }
      let taps = try io.shape(name)[2]
      let ratio = numbers.first ?? Int(io.config["up_ratio"]?.number ?? 2)
      let filter = AliasFreeSnake.lowPass(ratio: ratio, taps: taps)
      expectClose(try HostTensor(filter, [1, 1, taps]), try io[name], 1e-6, name)
    }
  }
}
