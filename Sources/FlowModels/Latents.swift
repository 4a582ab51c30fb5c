import FlowNN
public import FlowTensor

extension HostTensor {
  /// Latents [T, channels] or [1, T, channels], as encoder, data and sampler have them, as the decoder's [1, channels, T].
  /// - Throws: `TensorError` for another shape.
  public func columns() throws(TensorError) -> HostTensor {
    guard shape.count == 2 || (shape.count == 3 && shape[0] == 1) else {
      throw .shape(op: "latents", shapes: [shape], expected: "latents are [T, channels] or [1, T, channels]")
    }
    let (frames, channels, rows) = (shape[shape.count - 2], shape[shape.count - 1], floats)
    var columns = rows
    for t in 0..<frames {
      for c in 0..<channels { columns[c * frames + t] = rows[t * channels + c] }
    }
    return try HostTensor(columns, [1, channels, frames])
  }
}

extension LatentEncoder {
  /// The latents [T, channels] of a whole wave; the last frame is completed with silence.
  /// - Throws: `TensorError` when `store` lacks a weight.
  public static func encode(
    _ wave: [Float], config: LatentEncoderConfig, store: ParameterStore, prefix: String = ""
  ) throws -> HostTensor {
    let frames = max(1, (wave.count + config.hop - 1) / config.hop)
    let graph = Graph()
    let scope = ParameterList(graph, types: store.dtype).scope
    let encoder = LatentEncoder(config, prefix.isEmpty ? scope : scope[prefix])
    let latents = try encoder(graph.input("wave", [1, 1, frames * config.hop])).permuted([0, 2, 1])
    let program = try Program(
      graph, outputs: ["latents": latents.reshaped([frames, config.latentChannels])], parameters: store)
    let padded = wave + [Float](repeating: 0, count: frames * config.hop - wave.count)
    let result = try program.run(["wave": HostTensor(padded, [1, 1, padded.count])])
    return try result["latents"] ?? HostTensor([Float](), [0, config.latentChannels])
  }
}
