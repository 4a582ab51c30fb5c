import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import Foundation

/// The published sizes (spec 0.1).
private enum Published {
  static var transformer: DiTConfig {
    var config = DiTConfig(dim: 2048, depth: 16, heads: 16)
    config.repaDepth = 6
    config.repaDims = [1024, 768]
    return config
  }
  static let decoder = Data(
    #"""
    {"in_channels": 64, "resblock": "1", "upsample_rates": [10, 10, 8, 3, 2, 2],
     "upsample_kernel_sizes": [20, 20, 16, 7, 4, 4], "upsample_initial_channel": 1536,
     "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
     "activation": "snakebeta", "snake_logscale": true, "use_tanh_at_final": false, "use_bias_at_final": false,
     "sampling_rate": 48000, "fps": 5}
    """#.utf8)
}

/// Every parameter of a list with made-up values of a plausible size.
private func values(_ list: ParameterList) throws -> [String: HostTensor] {
  var result: [String: HostTensor] = [:]
  for (index, declaration) in list.declarations.enumerated() {
    result[declaration.name] = try initial(index, declaration.name, declaration.tensor.shape)
  }
  return result
}

/// Writes model.safetensors and decoder.safetensors of the published shapes into `folder`.
func makeRealSize(_ folder: String) throws {
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  let graph = Graph()
  let list = ParameterList(graph)
  let (config, n) = (Published.transformer, 10)
  let model = DiT(config, list.scope["transformer"])
  let x = try Tensor.concatenated(
    [
      model.embedText(graph.input("text", [1, n], .int32)),
      model.embedLatents(graph.input("latents", [1, n, config.melDim])),
    ], axis: 1)
  let output = try model(
    x, time: graph.input("time", [1, 2 * n]), style: graph.input("style", [1, config.condDim]),
    rotary: Rotary(graph, positions: Array(0..<2 * n), width: config.dim / config.heads),
    mask: graph.constant(HostTensor([true], [1, 1, 1, 1])))
  if let hidden = output.taps["repa"] {
    for head in config.repaDims.indices { _ = try model.projectREPA(hidden, head: head) }
  }
  let count = list.declarations.reduce(0) { $0 + $1.tensor.shape.reduce(1, *) }
  print("transformer: \(list.declarations.count) tensors, \(count) parameters")
  try Safetensors.write(values(list), metadata: ["format": "pt"], to: folder + "/model.safetensors")

  let decoder = try JSONDecoder().decode(VocoderConfig.self, from: Published.decoder)
  let other = Graph()
  let parts = ParameterList(other)
  _ = try Vocoder(decoder, parts.scope)(other.input("latents", [1, decoder.inChannels, 1]))
  var weights = try values(parts)
  let size = parts.declarations.reduce(0) { $0 + $1.tensor.shape.reduce(1, *) }
  weights.merge(try Vocoder.filterBuffers(decoder)) { mine, _ in mine }
  print("decoder: \(weights.count) tensors, \(size) parameters")
  try Safetensors.write(weights, metadata: ["format": "pt"], to: folder + "/decoder.safetensors")
}

/// One step of a low-rank training at 1,050 frames on the files of `makeRealSize`, and a second of the decoder.
func timeRealSize(_ folder: String, threads: Int, recomputes: Bool) throws {
  func say(_ what: String, _ body: () throws -> Void) rethrows {
    let (start, used) = (DispatchTime.now().uptimeNanoseconds, cpuSeconds())
    try body()
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
    print(
      String(
        format: "%.1f s, %.1f s of CPU, peak memory so far %.2f GiB: ", seconds, cpuSeconds() - used,
        Double(peakMemory()) / 1_073_741_824) + what)
  }
  var settings = FlowTraining.tiny(steps: 2)
  settings.model = Published.transformer
  settings.batch = 1
  settings.maxFrames = 1050
  settings.textDropout = 0
  settings.styleDropout = 0
  settings.recomputes = recomputes
  settings.adaptation = LowRank(
    rank: 16, alpha: 32, targets: DiT.layers(["attention", "feed_forward"]), dropout: 0.1)
  let frames = 1045
  let song = FlowSong(
    latents: try HostTensor(hashed(1, frames * 64), [frames, 64]),
    tokens: (0..<300).map { Int32($0 % 360 + 1) }, style: hashed(2, 512))
  var file: SafetensorsFile?
  try say("the file's header is read") { file = try SafetensorsFile(path: folder + "/model.safetensors") }
  guard let file else { return }
  var trainer: FlowTrainer?
  try say("the training is planned") {
    trainer = try FlowTrainer(
      settings, songs: [song], validation: [], seed: 1, backend: CPUBackend(threads: threads), base: [file])
  }
  guard let trainer else { return }
  struct Enough: Error {}
  try say("a step is taken") {
    do { try trainer.loop.run { _ in throw Enough() } } catch is Enough {}
  }
  print("loss \(trainer.loop.history.first?.loss ?? .nan)")
  try say("the adapter is written") {
    guard let adaptation = settings.adaptation else { return }
    try Adapter(adaptation, base: "ASLP-lab/DiffRhythm2", weights: trainer.loop.weights())
      .write(to: folder + "/adapter")
  }
  try say("the decoder makes 4 s") {
    let store = ParameterStore(CPUBackend(threads: threads))
    try store.load(SafetensorsFile(path: folder + "/decoder.safetensors"), borrowing: true)
    let decoder = try JSONDecoder().decode(VocoderConfig.self, from: Published.decoder)
    let wave = try VocoderDecoder(decoder, store: store, prefix: "")
      .decode(HostTensor(hashed(3, 64 * 20), [1, 64, 20]))
    print("\(wave.count) samples")
  }
}
