import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Testing

@Suite struct SamplerGolden {
  private func sample(
    _ io: Reference, blocks: Int, steps: Int, guidance: Float, edit: ((ParameterStore) throws -> Void)? = nil
  ) throws -> HostTensor? {
    guard let weights = try Reference("dit_tiny_weights") else { return nil }
    var config = try #require(io.config["dit"]).decode(DiTConfig.self)
    config.blockSize = Int(io.config["block_size"]?.number ?? 0)
    let store = ParameterStore(CPUBackend(threads: 2))
    try store.load(weights.file)
    try edit?(store)
    let ids: [Int32] = try io["text_ids"].floats.map { Int32($0) }
    let sampler = try FlowSampler(
      config, store: store, textCount: ids.count, maxBlocks: blocks, guidance: guidance)
    return try sampler.sample(
      text: ids, style: io["style_prompt"].floats, blocks: blocks, steps: steps, keepLastFrame: false
    ) { block in try io["noise.\(block)"].floats }
  }

  @Test func samplesAgree() throws {
    guard let io = try Reference("cfm_sample_tiny") else { return }
    let size = Int(io.config["block_size"]?.number ?? 1)
    for name in io.file.names where name.hasPrefix("latent") {
      // Names and description say how each was made.
      let steps = name.split(separator: "_").compactMap { $0.hasPrefix("steps") ? Int($0.dropFirst(5)) : nil }
      let got = try sample(
        io, blocks: try io.shape(name)[1] / size, steps: steps.first ?? Int(io.described("steps=") ?? 4),
        guidance: name.contains("nocfg") ? 0 : Float(io.described("cfg_strength ") ?? 2))
      if let got { expectClose(got, try io[name], 1e-5, name) }
    }
  }

  @Test func theSongEndsAtTheFramesOfOnes() throws {
    guard let io = try Reference("cfm_eos") else { return }
    let blocks = io.file.names.count { $0.hasPrefix("noise.") }
    let velocity = Float(io.described("bias:=") ?? 0.25)
    let got = try sample(io, blocks: blocks, steps: 4, guidance: 2) { store in
      let (weight, bias) = ("transformer.proj_out.weight", "transformer.proj_out.bias")
      let shape = try store.get(weight).shape
      try store.set(weight, try HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape))
      try store.set(bias, try HostTensor([Float](repeating: velocity, count: shape[0]), [shape[0]]))
    }
    if let got { expectClose(got, try io["latent"], 1e-5, "latent") }
  }
}
