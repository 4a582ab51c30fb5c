import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct DiTGolden {
  private func inputRotary(_ graph: Graph, _ positions: HostTensor, width: Int) throws -> Rotary {
    let (cos, sin) = Rotary.tables(positions.floats.map { Int($0) }, width: width)
    let shape = [positions.shape[0], positions.shape[1], 1, width / 2]
    return try Rotary(cos: graph.constant(cos, shape), sin: graph.constant(sin, shape))
  }

  @Test func forwardAndGradientsAgree() throws {
    guard let weights = try Reference("dit_tiny_weights"), let io = try Reference("dit_tiny_forward"),
      let expected = try Reference("dit_tiny_forward_grads")
    else { return }
    let config = try io.ditConfig()
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let graph = Graph()
    let list = ParameterList(graph)
    let model = DiT(config, list.scope["transformer"])
    let x = try graph.input("x", try io.shape("x"))
    let style = try graph.input("style", try io.shape("style_prompt"))
    let output = try model(
      x, time: graph.input("time", try io.shape("time")), style: style,
      rotary: inputRotary(graph, io["position_ids"], width: config.dim / config.heads),
      mask: graph.input("mask", try io.shape("attn_mask"), .bool))
    let loss = try (output.velocity - graph.input("target", try io.shape("target"))).square().mean().reshaped(
      [1])
    let names = list.declarations.map(\.name)
    let gradients = try graph.gradients(
      of: loss, withRespectTo: list.declarations.map(\.tensor) + [x, style])
    var outputs = ["output": output.velocity, "loss": loss]
    for (name, tap) in output.taps where name != "repa" { outputs["mid." + name] = tap }
    for (name, gradient) in zip(names + ["grad.x", "grad.style_prompt"], gradients) {
      outputs[name] = gradient
    }
    let result = try Program(graph, outputs: outputs, parameters: store).run([
      "x": io["x"], "style": io["style_prompt"], "time": io["time"], "mask": io.mask("attn_mask"),
      "target": io["target"],
    ])
    for name in io.file.names where name.hasPrefix("mid.") || name == "output" || name == "loss" {
      expectClose(result[name], try io[name], 1e-5, name)
    }
    for name in ["grad.x", "grad.style_prompt"] { expectClose(result[name], try io[name], 1e-4, name) }
    #expect(Set(expected.file.names) == Set(names))
    for name in expected.file.names { expectClose(result[name], try expected[name], 1e-4, name) }
  }

  /// The graph of the golden training step.
  private func step(_ graph: Graph, _ model: DiT, _ io: Reference, batch: Int, latents: Int, texts: Int)
    throws
    -> FlowMatching.Batch
  {
    let (cond, channels) = (model.config.condDim, model.config.melDim)
    let n = texts + 2 * latents
    let clean = try graph.input("x1", [batch, latents, channels])
    let noise = try graph.input("x0", [batch, latents, channels])
    return try FlowMatching.Batch(
      text: graph.input("text_ids", [batch, texts], .int32), clean: clean,
      noisy: graph.input("xt", [batch, latents, channels]), time: graph.input("t", [batch, latents]),
      target: clean - noise, style: graph.input("style_prompt", [batch, cond]),
      mask: graph.input("attn_mask", [batch, 1, n, n], .bool), valid: graph.input("valid", [batch, latents]))
  }

  private func valid(_ lengths: HostTensor, _ latents: Int) throws -> HostTensor {
    var values: [Float] = []
    for length in lengths.floats { values += (0..<latents).map { Float($0) < length ? 1 : 0 } }
    return try HostTensor(values, [lengths.shape[0], latents])
  }

  private func noisy(_ x0: [Float], _ x1: [Float], _ t: [Float], _ shape: [Int]) throws -> HostTensor {
    try HostTensor(
      x0.indices.map { i in
        let time = t[i / shape[2]]
        return (1 - time) * x0[i] + time * x1[i]
      }, shape)
  }

  @Test func trainingStepAndGradientsAgree() throws {
    guard let weights = try Reference("dit_tiny_weights"), let io = try Reference("dit_tiny_train"),
      let expected = try Reference("dit_tiny_train_grads")
    else { return }
    let config = try io.ditConfig()
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let (shape, texts) = (try io.shape("x1"), try io.shape("text_ids")[1])
    let graph = Graph()
    let list = ParameterList(graph)
    let model = DiT(config, list.scope["transformer"])
    let batch = try io.trainingBatch(graph)
    let objective = try FlowMatching.loss(model, batch)
    let sequence = try FlowMatching.sequence(model, batch)
    let gradients = try graph.gradients(
      of: objective.loss, withRespectTo: list.declarations.map(\.tensor) + [batch.noisy])
    var outputs = [
      "loss": try objective.loss.reshaped([1]), "output": objective.output.velocity,
      "seq.embeddings": sequence.embeddings, "seq.time": sequence.time,
    ]
    for (name, gradient) in zip(list.declarations.map(\.name) + ["grad.xt"], gradients) {
      outputs[name] = gradient
    }
    let mask = try FlowMatching.mask(
      textCount: texts, latentCount: shape[1], blockSize: config.blockSize,
      textLengths: try io["text_lens"].floats.map { Int($0) },
      latentLengths: try io["latent_lens"].floats.map { Int($0) })
    #expect(mask.floats == (try io.floats("attn_mask").floats), "the block mask")
    let inputs = try io.trainingInputs()
    let result = try Program(graph, outputs: outputs, parameters: store).run(inputs)
    let time = try #require(inputs["t"]).floats
    let xt = try noisy(io["x0"].floats, io["x1"].floats, time, shape)
    for name in ["loss", "output", "seq.embeddings", "seq.time"] {
      expectClose(result[name], try io[name], 1e-5, name)
    }
    expectClose(xt, try io["xt"], 1e-6, "xt")
    let positions = try io["seq.position_ids"].floats.map { Int($0) }
    #expect(positions == (0..<shape[0]).flatMap { _ in sequence.positions })
    expectClose(result["grad.xt"], try io["grad.xt"], 1e-4, "grad.xt")
    for name in expected.file.names { expectClose(result[name], try expected[name], 1e-4, name) }
  }

  @Test func representationHeadsAgree() throws {
    guard let weights = try Reference("dit_tiny_weights"), let io = try Reference("dit_tiny_forward"),
      let expected = try Reference("repa_projectors")
    else { return }
    let config = try io.ditConfig()
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let graph = Graph()
    let model = DiT(config, ParameterList(graph).scope["transformer"])
    let hidden = try #require(
      model(
        graph.input("x", io.shape("x")), time: graph.input("time", io.shape("time")),
        style: graph.input("style", io.shape("style_prompt")),
        rotary: inputRotary(graph, io["position_ids"], width: config.dim / config.heads),
        mask: graph.input("mask", io.shape("attn_mask"), .bool)
      ).taps["repa"])
    var outputs = ["projector.input": hidden]
    for head in config.repaDims.indices {
      outputs["projector.\(head).output"] = try model.projectREPA(hidden, head: head)
    }
    let result = try Program(graph, outputs: outputs, parameters: store).run([
      "x": io["x"], "style": io["style_prompt"], "time": io["time"], "mask": io.mask("attn_mask"),
    ])
    #expect(Set(expected.file.names) == Set(outputs.keys))
    for name in expected.file.names { expectClose(result[name], try expected[name], 1e-5, name) }
  }

  @Test func twentyStepsOfAdamWAgree() throws {
    guard let weights = try Reference("dit_tiny_weights"), let io = try Reference("adamw_inputs"),
      let expected = try Reference("adamw_trajectory"), let optimizer = io.config["optim"]
    else { return }
    let config = try io.ditConfig()
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    let shape = try io.shape("x1")
    let (steps, batchSize, latents, channels) = (shape[0], shape[1], shape[2], shape[3])
    let texts = try io.shape("text_ids")[2]
    let graph = Graph()
    let list = ParameterList(graph)
    let model = DiT(config, list.scope["transformer"])
    let batch = try step(graph, model, io, batch: batchSize, latents: latents, texts: texts)
    let loss = try FlowMatching.loss(model, batch).loss
    var settings = OptimizerSettings(
      learningRate: optimizer["lr"]?.number ?? 0, total: Int(optimizer["total"]?.number ?? 0))
    settings.warmup = Int(optimizer["warmup"]?.number ?? 0)
    settings.clip = optimizer["clip"]?.number ?? 0
    settings.weightDecay = optimizer["weight_decay"]?.number ?? 0
    settings.epsilon = optimizer["eps"]?.number ?? 1e-8
    if case .array(let betas)? = optimizer["betas"] {
      settings.beta1 = betas[0].number ?? 0.9
      settings.beta2 = betas[1].number ?? 0.999
    }
    let training = try TrainingStep(
      loss: loss, parameters: list.declarations, store: store, settings: settings)
    let (losses, rates, norms) = (
      try expected.file.doubles("loss"), try expected.file.doubles("lr"),
      try expected.file.doubles("grad_norm_before_clip")
    )
    func slice(_ name: String, _ step: Int, _ inner: [Int]) throws -> HostTensor {
      let tensor = try io[name]
      let count = inner.reduce(1, *)
      let part = Array(tensor.floats[step * count..<(step + 1) * count])
      if case .int32 = tensor.values { return try HostTensor(part.map { Int32($0) }, inner) }
      return try HostTensor(part, inner)
    }
    let blocks = try io.shape("t_block")[2]
    for index in 0..<steps {
      let x0 = try slice("x0", index, [batchSize, latents, channels])
      let x1 = try slice("x1", index, [batchSize, latents, channels])
      let time = try slice("t_block", index, [batchSize, blocks]).floats.flatMap {
        [Float](repeating: $0, count: latents / blocks)
      }
      let report = try training.run(
        [
          [
            "x0": x0, "x1": x1, "xt": noisy(x0.floats, x1.floats, time, x0.shape),
            "t": try HostTensor(time, [batchSize, latents]),
            "text_ids": slice("text_ids", index, [batchSize, texts]),
            "style_prompt": slice("style_prompt", index, [batchSize, config.condDim]),
            "attn_mask": io.mask("attn_mask"), "valid": valid(try io["latent_lens"], latents),
          ]
        ], step: index)
      #expect(abs(settings.rate(index) - rates[index]) <= 1e-9)
      #expect(abs(Double(report["loss"] ?? 0) / losses[index] - 1) <= 1e-5, "loss of step \(index)")
      #expect(abs(Double(report["gradient_norm"] ?? 0) / norms[index] - 1) <= 1e-4, "norm of step \(index)")
    }
    for name in expected.file.names where name.hasPrefix("final.") {
      expectClose(try store.get(String(name.dropFirst(6))), try expected[name], 1e-4, name)
    }
    guard case .object(let checksums)? = expected.sidecar["final_weight_checksums"] else {
      Issue.record("no checksums")
      return
    }
    #expect(Set(checksums.keys) == Set(weights.file.names))
    for (name, checksum) in checksums {
      let values = try store.get(name).floats.map(Double.init)
      let norm = try #require(checksum["l2"]?.number)
      let sum = try #require(checksum["sum"]?.number)
      let size = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(abs(size / norm - 1) <= 1e-5, "norm of \(name)")
      #expect(
        abs(values.reduce(0, +) - sum) <= 1e-5 * norm * Double(values.count).squareRoot(), "sum of \(name)")
      let largest = try #require(checksum["absmax"]?.number)
      #expect(abs((values.map(abs).max() ?? 0) - largest) <= 1e-5 * norm, "largest of \(name)")
    }
  }
}
