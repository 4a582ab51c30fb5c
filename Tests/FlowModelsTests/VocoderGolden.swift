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
      let targets = [x, alpha] + (beta.map { [$0] } ?? [])
      let gradients = try graph.gradients(of: scalar, withRespectTo: targets)
      var outputs = ["y": y]
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
}
