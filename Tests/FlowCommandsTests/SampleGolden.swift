import FlowCore
import FlowNN
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

/// `flow sample` on the golden files: the reference's sampler through the command.
@Suite struct SampleGolden {
  /// A golden file with its sidecar.
  private struct Song {
    let file: SafetensorsFile
    let path: String
    let description: String
    let blockSize: Int
    let shell: Shell

    init?(_ name: String) throws {
      guard let url = Golden.file("diffrhythm2/\(name).safetensors"),
        let weights = Golden.file("diffrhythm2/dit_tiny_weights.safetensors")
      else { return nil }
      path = url.path
      file = try SafetensorsFile(path: path)
      let sidecar = try JSON(
        parsing: Data(contentsOf: url.deletingPathExtension().appendingPathExtension("json")))
      description = sidecar["description"]?.text ?? ""
      blockSize = Int(sidecar["config"]?["block_size"]?.number ?? 1)
      shell = try Shell(bare: true)
      guard case .object(var config)? = sidecar["config"]?["dit"] else { return nil }
      config["block_size"] = .int(blockSize)
      try shell.folder.write("m/model.json", JSON.object(config).pretty)
      var tensors = try WeightFile.read(weights.path)
      if let velocity = described("bias:=") {
        // The velocity is the same everywhere.
        let (weight, bias) = ("transformer.proj_out.weight", "transformer.proj_out.bias")
        let shape = try #require(tensors[weight]?.shape)
        tensors[weight] = try HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape)
        tensors[bias] = try HostTensor([Float](repeating: Float(velocity), count: shape[0]), [shape[0]])
      }
      try Safetensors.write(tensors, to: shell.folder.path + "/m/model.safetensors")
      let ids = try file.tensor("text_ids").floats.map { String(Int($0)) }
      try shell.folder.write("ids.txt", ids.joined(separator: " "))
      let style = try file.tensor("style_prompt")
      try Safetensors.write(
        ["style": HostTensor(style.floats, [style.floats.count])],
        to: shell.folder.path + "/style.safetensors")
    }

    /// The number that follows `words` in the description.
    func described(_ words: String) -> Double? {
      guard let place = description.range(of: words) else { return nil }
      let number = description[place.upperBound...].prefix { $0.isNumber || $0 == "." }
      return Double(number.hasSuffix(".") ? number.dropLast() : number)
    }

    func sample(frames: Int, steps: Int, guidance: Double, _ more: [String] = []) throws -> [Float] {
      let done = try shell.run(
        [
          "sample", "m", "--latents", "out.safetensors", "--tokens", "ids.txt", "--style",
          "style.safetensors", "--noise", path, "--frames", String(frames), "--steps", String(steps),
          "--guidance", String(guidance), "--threads", "2",
        ] + more)
      #expect(done.code == 0, "\(done.error)")
      return try SafetensorsFile(path: shell.folder.path + "/out.safetensors").tensor("latents").floats
    }
  }

  private func error(_ a: [Float], _ b: [Float]) -> Double {
    guard a.count == b.count else { return .infinity }
    let squares = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    return (squares / b.reduce(0) { $0 + Double($1) * Double($1) }).squareRoot()
  }

  @Test func theSongsAgree() throws {
    guard let song = try Song("cfm_sample_tiny") else { return }
    let names = song.file.names.filter { $0.hasPrefix("latent") }
    #expect(!names.isEmpty)
    for name in names {
      // Names and description say how each was made; one frame more than whole blocks asks for one block more.
      let steps = name.split(separator: "_").compactMap {
        $0.hasPrefix("steps") ? Int($0.dropFirst(5)) : nil
      }
      let expected = try song.file.tensor(name)
      let got = try song.sample(
        frames: expected.shape[1] - song.blockSize + 1,
        steps: steps.first ?? Int(song.described("steps=") ?? 4),
        guidance: name.contains("nocfg") ? 0 : song.described("cfg_strength ") ?? 2)
      #expect(error(got, expected.floats) <= 1e-5, "\(name): \(error(got, expected.floats))")
    }
  }

  @Test func theSongEndsAsInTheReferenceWhenAsked() throws {
    guard let song = try Song("cfm_eos") else { return }
    #expect(song.described("bias:=") != nil, "the description says how the weights were edited")
    let blocks = song.file.names.count { $0.hasPrefix("noise.") }
    let expected = try song.file.tensor("latent")
    let got = try song.sample(
      frames: blocks * song.blockSize, steps: Int(song.described("steps=") ?? 4), guidance: 2,
      ["--reference-end"])
    #expect(error(got, expected.floats) <= 1e-5)
    // Without the flag, the frame before the end is kept.
    let whole = try song.sample(
      frames: blocks * song.blockSize, steps: Int(song.described("steps=") ?? 4), guidance: 2)
    #expect(whole.count == got.count + expected.shape[2] && whole.starts(with: got))
  }
}
