import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct AdapterGolden {
  private func adapter() throws -> Adapter? {
    guard let url = Golden.file("diffrhythm2/lora_adapter/adapter_config.json") else { return nil }
    return try Adapter(folder: url.deletingLastPathComponent().path)
  }

  private func weights(_ reference: Reference) throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for name in reference.file.names { result[name] = try reference[name] }
    return result
  }

  /// Output and loss of the golden training step, and gradients of what is trainable.
  private func run(_ weights: [String: HostTensor], _ adaptation: LowRank?) throws -> [String: HostTensor]? {
    guard let io = try Reference("dit_tiny_train") else { return nil }
    let store = ParameterStore(CPUBackend(threads: 2))
    for (name, value) in weights { try store.set(name, value) }
    let graph = Graph()
    let list = ParameterList(graph, adaptation: adaptation.map { Adaptation($0) })
    let model = DiT(try io.ditConfig(), list.scope["transformer"])
    let objective = try FlowMatching.loss(model, io.trainingBatch(graph))
    if let adaptation { try list.check(adaptation) }
    var outputs = ["output": objective.output.velocity, "loss": try objective.loss.reshaped([1])]
    if adaptation != nil {
      let gradients = try graph.gradients(
        of: objective.loss, withRespectTo: list.trainable.map(\.tensor))
      for (declaration, gradient) in zip(list.trainable, gradients) {
        outputs["grad.base_model.model." + declaration.name] = gradient
      }
    }
    return try Program(graph, outputs: outputs, parameters: store).run(io.trainingInputs())
  }

  @Test func outputsAndGradientsAgree() throws {
    guard let base = try Reference("dit_tiny_weights"), let expected = try Reference("lora_tiny"),
      let adapter = try adapter()
    else { return }
    let fitted = try adapter.fitted(to: base.file.entries.mapValues(\.shape))
    #expect(fitted.weights.count == adapter.weights.count)
    let all = try weights(base).merging(fitted.weights) { a, _ in a }
    guard let result = try run(all, fitted.settings) else { return }
    for name in ["output", "loss"] { expectClose(result[name], try expected[name], 1e-5, name) }
    let gradients = expected.file.names.filter { $0.hasPrefix("grad.") }
    #expect(Set(gradients) == Set(result.keys).subtracting(["output", "loss"]), "only A and B are trained")
    for name in gradients { expectClose(result[name], try expected[name], 1e-4, name) }
  }

  @Test func mergedWeightsAndOutputsAgree() throws {
    guard let base = try Reference("dit_tiny_weights"), let merged = try Reference("lora_merged_weights"),
      let adapter = try adapter()
    else { return }
    let all = try weights(base)
    let result = try adapter.merged(into: all, on: CPUBackend(threads: 2))
    for name in merged.file.names { expectClose(result[name], try merged[name], 1e-6, name) }
    let changed = Set(result.keys.filter { result[$0] != all[$0] })
    #expect(changed == Set(merged.file.names))
    guard let expected = try Reference("lora_tiny"), let outputs = try run(result, nil) else { return }
    expectClose(outputs["output"], try expected["merged_output"], 1e-5, "merged_output")
    expectClose(outputs["loss"], try expected["merged_loss"], 1e-5, "merged_loss")
  }

  @Test func foldersRoundTrip() throws {
    guard let adapter = try adapter() else { return }
    let folder = try TemporaryFolder()
    let path = folder.path + "/an/adapter"
    var named = adapter
    named.base = "a/base"
    named.settings.dropout = 0.25
    named.settings.isStabilized = true
    named.settings.alpha = 1.5
    for original in [adapter, named] {
      try original.write(to: path)
      let back = try Adapter(folder: path)
      #expect(back.settings == original.settings && back.base == original.base)
      #expect(back.weights == original.weights)
    }
  }

  /// Keys may have been saved from the transformer itself, without its wrapper, and the base may be either.
  @Test func theWrapperIsOptional() throws {
    guard let base = try Reference("dit_tiny_weights"), let adapter = try adapter() else { return }
    let shapes = base.file.entries.mapValues(\.shape)
    func bare<T>(_ values: [String: T]) -> [String: T] {
      Dictionary(
        uniqueKeysWithValues: values.map {
          ($0.key.hasPrefix("transformer.") ? String($0.key.dropFirst(12)) : $0.key, $0.value)
        })
    }
    var unwrapped = adapter
    unwrapped.weights = bare(adapter.weights)
    #expect(unwrapped.weights.keys != adapter.weights.keys)
    #expect(try unwrapped.fitted(to: shapes).weights == adapter.weights)
    #expect(try adapter.fitted(to: bare(shapes)).weights == unwrapped.weights)
    #expect(try unwrapped.fitted(to: bare(shapes)).weights == unwrapped.weights)
  }
}

extension Reference {
  func ditConfig() throws -> DiTConfig {
    var config = try #require(config["dit"]).decode(DiTConfig.self)
    if let size = self.config["block_size"]?.number { config.blockSize = Int(size) }
    return config
  }

  /// The inputs of the golden training step, with times per frame.
  func trainingInputs() throws -> [String: HostTensor] {
    let (shape, blocks) = (try shape("x1"), try self["t_block"])
    let (frames, perBlock) = (shape[1], shape[1] / blocks.shape[1])
    var valid: [Float] = []
    for length in try self["latent_lens"].floats { valid += (0..<frames).map { Float($0) < length ? 1 : 0 } }
    return try [
      "x1": self["x1"], "x0": self["x0"], "xt": self["xt"], "text_ids": self["text_ids"],
      "t": HostTensor(
        blocks.floats.flatMap { [Float](repeating: $0, count: perBlock) }, [shape[0], frames]),
      "style_prompt": self["style_prompt"], "attn_mask": mask("attn_mask"),
      "valid": HostTensor(valid, [shape[0], frames]),
    ]
  }

  /// The batch of the golden training step.
  func trainingBatch(_ graph: Graph) throws -> FlowMatching.Batch {
    let latents = try shape("x1")
    let clean = try graph.input("x1", latents)
    return try FlowMatching.Batch(
      text: graph.input("text_ids", shape("text_ids"), .int32), clean: clean,
      noisy: graph.input("xt", latents), time: graph.input("t", [latents[0], latents[1]]),
      target: clean - graph.input("x0", latents), style: graph.input("style_prompt", shape("style_prompt")),
      mask: graph.input("attn_mask", shape("attn_mask"), .bool),
      valid: graph.input("valid", [latents[0], latents[1]]))
  }
}
