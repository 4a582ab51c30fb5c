import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

/// A golden file with its sidecar.
private struct Golden {
  let file: SafetensorsFile
  let config: JSON

  init(_ folder: String, _ name: String) throws {
    file = try SafetensorsFile(path: "\(folder)/diffrhythm2/\(name).safetensors")
    let text = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/diffrhythm2/\(name).json"))
    config = try JSON(parsing: text)["config"] ?? .null
  }

  subscript(name: String) -> HostTensor {
    get throws { try file.tensor(name) }
  }

  func sizes<Sizes: Decodable>(_ key: String, _ type: Sizes.Type) throws -> Sizes {
    try (config[key] ?? config).decode(type)
  }
}

/// ‖a - b‖ / ‖b‖; infinite where the counts differ.
private func relative(_ a: HostTensor?, _ b: HostTensor) -> Double {
  guard let a = a?.floats, a.count == b.floats.count else { return .infinity }
  var (error, size) = (0.0, 0.0)
  for (x, y) in zip(a, b.floats) {
    error += Double(x - y) * Double(x - y)
    size += Double(y) * Double(y)
  }
  return error.squareRoot() / max(size.squareRoot(), 1e-7)
}

/// PyTorch's numbers of the tiny transformer and vocoder, forward and gradients, in the options' precision.
func checkGolden(_ options: Options) throws -> Bool {
  let backend = try options.backend()
  let isRounded = options.device == "cuda" && options.precision != .float32
  var isRight = true
  func compare(_ what: String, _ result: [String: HostTensor], _ wanted: [(String, HostTensor)]) throws {
    // The vocoder's loss is a sum of magnitudes: a wave that is 1 % off turns the sign of some 0.4 % of its gradient.
    let bound = !isRounded ? 1e-4 : what == "vocoder, gradients" ? 0.25 : 5e-2
    // Gradients that are nearly nothing, such as a bias's before a norm, are held to the largest of their kind.
    let errors = wanted.map { ($0.0, relative(result[$0.0], $0.1)) }
    let worst = errors.max { $0.1 < $1.1 } ?? ("nothing", .infinity)
    try options.record([
      "part": "golden", "device": options.name, "what": what, "ok": worst.1 <= bound, "values": wanted.count,
      "worst": worst.1.isFinite ? worst.1 : -1, "in": worst.0, "bound": bound,
    ])
    isRight = isRight && worst.1 <= bound
  }
  try compareTransformer(options.folder, backend, compare)
  try compareVocoder(options.folder, backend, compare)
  return isRight
}

private func compareTransformer(
  _ folder: String, _ backend: any Backend,
  _ compare: (String, [String: HostTensor], [(String, HostTensor)]) throws -> Void
) throws {
  let (weights, io) = (try Golden(folder, "dit_tiny_weights"), try Golden(folder, "dit_tiny_forward"))
  let expected = try Golden(folder, "dit_tiny_forward_grads")
  let config = try io.sizes("dit", DiTConfig.self)
  let store = ParameterStore(backend)
  try store.load(weights.file)
  let graph = Graph()
  let list = ParameterList(graph)
  let model = DiT(config, list.scope["transformer"])
  let positions = try io["position_ids"]
  let (cos, sin) = Rotary.tables(positions.floats.map { Int($0) }, width: config.dim / config.heads)
  let shape = [positions.shape[0], positions.shape[1], 1, config.dim / config.heads / 2]
  let output = try model(
    graph.input("x", io["x"].shape), time: graph.input("time", io["time"].shape),
    style: graph.input("style", io["style_prompt"].shape),
    rotary: Rotary(cos: graph.constant(cos, shape), sin: graph.constant(sin, shape)),
    mask: graph.input("mask", io["attn_mask"].shape, .bool))
  let loss = try (output.velocity - graph.input("target", io["target"].shape)).square().mean().reshaped([1])
  var outputs = ["output": output.velocity, "loss": loss]
  let gradients = try graph.gradients(of: loss, withRespectTo: list.declarations.map(\.tensor))
  for (declaration, gradient) in zip(list.declarations, gradients) { outputs[declaration.name] = gradient }
  let result = try Program(graph, outputs: outputs, parameters: store).run([
    "x": io["x"], "style": io["style_prompt"], "time": io["time"], "mask": io["attn_mask"].cast(to: .bool),
    "target": io["target"],
  ])
  try compare("transformer, forward", result, ["output", "loss"].map { ($0, try io[$0]) })
  try compare("transformer, gradients", result, expected.file.names.map { ($0, try expected[$0]) })
}

private func compareVocoder(
  _ folder: String, _ backend: any Backend,
  _ compare: (String, [String: HostTensor], [(String, HostTensor)]) throws -> Void
) throws {
  let (weights, io) = (try Golden(folder, "vocoder_tiny_weights"), try Golden(folder, "vocoder_tiny"))
  let expected = try Golden(folder, "vocoder_tiny_grads")
  let config = try io.sizes("generator", VocoderConfig.self)
  let store = ParameterStore(backend)
  try store.load(weights.file)
  let graph = Graph()
  let list = ParameterList(graph)
  let wave = try Vocoder(config, list.scope)(graph.input("latent", io["latent"].shape)).wave
  let loss = try (wave - graph.input("target", io["target"].shape)).abs().mean().reshaped([1])
  var outputs = ["wave": wave, "loss": loss]
  let gradients = try graph.gradients(of: loss, withRespectTo: list.declarations.map(\.tensor))
  for (declaration, gradient) in zip(list.declarations, gradients) { outputs[declaration.name] = gradient }
  let result = try Program(graph, outputs: outputs, parameters: store).run([
    "latent": io["latent"], "target": io["target"],
  ])
  try compare("vocoder, forward", result, ["wave", "loss"].map { ($0, try io[$0]) })
  let names = expected.file.names.filter { outputs[$0] != nil }
  try compare("vocoder, gradients", result, names.map { ($0, try expected[$0]) })
}
