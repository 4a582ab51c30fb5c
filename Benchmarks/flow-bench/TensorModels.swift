import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU

/// Gives every declared parameter the value that the peer gives it.
private func fill(_ list: ParameterList, _ store: ParameterStore) throws {
  let sorted = list.declarations.sorted { $0.name < $1.name }
  for (index, declaration) in sorted.enumerated() {
    try store.set(declaration.name, initial(index, declaration.name, declaration.tensor.shape))
  }
}

/// A training step of the transformer: 512 latent frames under a lower-triangular mask, mean squared error, AdamW.
func trainDiT(_ backend: CPUBackend, dim: Int, depth: Int, heads: Int, batch: Int) throws -> TensorCase {
  let (count, config) = (512, DiTConfig(dim: dim, depth: depth, heads: heads))
  let (store, graph) = (ParameterStore(backend), Graph())
  let list = ParameterList(graph)
  let model = DiT(config, list.scope)
  let shapes = [
    "latents": [batch, count, config.melDim], "time": [batch, count], "style": [batch, config.condDim],
    "target": [batch, count, config.melDim],
  ]
  func input(_ name: String) throws -> Tensor { try graph.parameter("case." + name, shapes[name] ?? []) }
  for (index, (name, shape)) in shapes.sorted(by: { $0.key < $1.key }).enumerated() {
    try store.set("case." + name, HostTensor(hashed(1000 + index, shape.reduce(1, *)), shape))
  }
  let lower = (0..<count * count).map { $0 % count <= $0 / count }
  let output = try model(
    model.embedLatents(input("latents")), time: input("time"), style: input("style"),
    rotary: Rotary(graph, positions: Array(0..<count), width: dim / heads),
    mask: graph.constant(HostTensor(lower, [1, 1, count, count])))
  let loss = try (output.velocity - input("target")).square().mean().reshaped([])
  try fill(list, store)
  var settings = OptimizerSettings(learningRate: 1e-4, total: 1000)
  settings.schedule = .constant
  settings.clip = 0
  let step = try TrainingStep(
    loss: loss, parameters: list.declarations, store: store, settings: settings)
  var number = 0
  return TensorCase(
    run: {
      defer { number += 1 }
      return try step.run([[:]], step: number)["loss"]
    }, productFlops: step.productFlops, program: step.program)
}

/// The vocoder's forward and backward pass; the loss is the mean magnitude of the wave.
func trainVocoder(_ backend: CPUBackend, rates: [Int], kernels: [Int], frames: Int) throws -> TensorCase {
  var config = VocoderConfig.tiny
  config.resblock = "1"
  config.upsampleRates = rates
  config.upsampleKernelSizes = kernels
  config.upsampleInitialChannel = 256
  config.resblockKernelSizes = [3, 7, 11]
  config.resblockDilationSizes = [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
  let (store, graph) = (ParameterStore(backend), Graph())
  let list = ParameterList(graph)
  let shape = [1, config.inChannels, frames]
  try store.set("case.latents", HostTensor(hashed(1000, shape.reduce(1, *)), shape))
  let wave = try Vocoder(config, list.scope)(graph.parameter("case.latents", shape)).wave
  let loss = try wave.abs().mean().reshaped([])
  try fill(list, store)
  let gradients = try graph.gradients(of: loss, withRespectTo: list.declarations.map(\.tensor))
  var outputs = ["loss": loss]
  for (i, gradient) in gradients.enumerated() {
    outputs["g\(i)"] = try gradient.reshaped([-1]).sliced(axis: 0, from: 0, count: 1)
  }
  let program = try Program(graph, outputs: outputs, parameters: store)
  return TensorCase(
    run: { try program.run()["loss"]?.floats[0] }, productFlops: program.productFlops, program: program)
}
