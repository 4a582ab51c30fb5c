import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

/// `flow sample` on a tiny model: songs, adapters, mistakes.
@Suite struct SampleTests {
  static let golden = repositoryRoot + "/Tests/Golden/diffrhythm2/"

  /// A folder with a model of 64 wide tokens and a decoder of 40 samples a frame, in `m`.
  static func project() throws -> Shell {
    let shell = try Shell(bare: true)
    func copy(_ from: String, _ to: String) throws {
      try shell.folder.write(to, try Data(contentsOf: URL(fileURLWithPath: golden + from)))
    }
    try copy("dit_tiny_weights.safetensors", "m/model.safetensors")
    try copy("decoder_tiny.bin", "m/decoder.bin")
    try copy("decoder_tiny.bin.config.json", "m/decoder.json")
    let sidecar = try JSON(
      parsing: Data(contentsOf: URL(fileURLWithPath: golden + "cfm_sample_tiny.json")))
    guard case .object(var config)? = sidecar["config"]?["dit"] else {
      throw CocoaError(.fileReadCorruptFile)
    }
    config["block_size"] = 5
    try shell.folder.write("m/model.json", JSON.object(config).pretty)
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
      try copy("lora_adapter/\(file)", "vocal/\(file)")
    }
    try shell.folder.write("words.txt", "[verse]\nrow the boat\n\n[chorus]\ngently down the stream\n")
    return shell
  }

  private static let quick = ["--frames", "23", "--steps", "3", "--threads", "2"]

  private func latents(_ shell: Shell, _ more: String...) throws -> HostTensor {
    let done = try shell.run(
      ["sample", "m", "--latents", "z.safetensors", "--prompt", "folk", "--lyrics", "words.txt"]
        + SampleTests.quick + more)
    #expect(done.code == 0, "\(done.error)")
    return try SafetensorsFile(path: shell.folder.path + "/z.safetensors").tensor("latents")
  }

  @Test func aSongIsWritten() throws {
    let shell = try SampleTests.project()
    func song(_ more: String...) throws -> AudioBuffer {
      let done = try shell.run(
        ["sample", "m", "-o", "song.wav", "--prompt", "folk", "--lyrics", "words.txt"] + SampleTests.quick
          + more)
      #expect(done.code == 0, "\(done.error)")
      #expect(done.error.contains("hashed-prompt-v1"), "what the style is, is said")
      return try AudioFile.read(shell.folder.path + "/song.wav")
    }
    // 23 frames are 5 blocks of 5, which are decoded in two chunks.
    let first = try song()
    #expect(first.count == 25 * 40 && first.channels.count == 1 && first.peak > 0.001)
    #expect(try song() == first, "the same seed gives the same song")
    #expect(try song("--seed", "1") != first)
    #expect(try song("--guidance", "0") != first)
    let wide = try song("--fake-stereo")
    #expect(wide.channels[0] == first.channels[0])
    let late = wide.sampleRate / 100
    #expect(wide.channels[1].prefix(late).allSatisfy { $0 == 0 })
    for (a, b) in zip(wide.channels[1].dropFirst(late), first.channels[0]) {
      #expect(abs(a - 0.8 * b) < 1e-4)
    }
    let done = try shell.run(
      ["sample", "m", "-o", "song.wav", "--latents", "z.safetensors", "--json"] + SampleTests.quick)
    let report = try JSON(parsing: Data(done.out.utf8))
    #expect(report["schema"] == "flow.sample/1" && report["frames"] == 25 && report["ended"] == false)
    #expect(done.error.contains("style: none"))
    let names = try FileManager.default.contentsOfDirectory(atPath: shell.folder.path)
    #expect(!names.contains { $0.hasSuffix(".part") || $0.hasSuffix(".tmp") })
  }

  /// A decoder whose weight norm was folded sounds the same.
  @Test func aFoldedDecoderIsTaken() throws {
    let shell = try SampleTests.project()
    func song() throws -> [Float] {
      let done = try shell.run(["sample", "m", "-o", "song.wav", "--prompt", "x"] + SampleTests.quick)
      #expect(done.code == 0, "\(done.error)")
      return try AudioFile.read(shell.folder.path + "/song.wav").mono
    }
    let kept = try song()
    #expect(try shell("convert", "m/decoder.bin", "m/decoder.safetensors", "--fold").code == 0)
    try FileManager.default.removeItem(atPath: shell.folder.path + "/m/decoder.bin")
    #expect(zip(try song(), kept).allSatisfy { abs($0 - $1) < 2e-4 })
    // A row of zeros is one.
    let path = shell.folder.path + "/m/decoder.safetensors"
    var weights = try WeightFile.read(path)
    let shape = try #require(weights["conv_pre.weight"]?.shape)
    weights["conv_pre.weight"] = try HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape)
    try Safetensors.write(weights, to: path)
    #expect(try song().allSatisfy(\.isFinite))
  }

  /// An adapter lies beside the base: no byte of the base changes, and without the adapter all is as before it.
  @Test func anAdapterComesAndGoes() throws {
    let shell = try SampleTests.project()
    let files = ["m/model.safetensors", "m/model.json", "m/decoder.bin"]
    let before = files.map { shell.folder.read($0) }
    let base = try latents(shell)
    let adapted = try latents(shell, "--adapter", "vocal")
    #expect(adapted != base)
    #expect(try latents(shell) == base, "bit for bit")
    #expect(files.map { shell.folder.read($0) } == before)
    // Two halves are the whole, up to rounding.
    let halves = try latents(shell, "--adapter", "vocal=0.25", "--adapter", "vocal=0.75").floats
    let error = zip(halves, adapted.floats).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(error < 1e-3, "\(error)")
    let silenced = try latents(shell, "--adapter", "vocal=0").floats
    #expect(zip(silenced, base.floats).allSatisfy { abs($0 - $1) < 1e-6 })
  }

  /// Networks for a voice lie beside the base as well, and are told what a song is to be.
  @Test func conditionsAreTold() throws {
    let shell = try SampleTests.project()
    let base = try latents(shell)
    let digest = Digest(of: try #require(shell.folder.read("m/model.safetensors")))
    let sizes = ConditionSizes([.f0], hidden: 4, output: 64)
    func write(_ name: String, _ value: Float) throws {
      // The names and shapes are those that a refusal lists.
      var weights: [String: HostTensor] = [:]
      for (key, shape) in [("in", [4, sizes.width(.f0)]), ("out", [64, 4])] {
        weights["conditions.f0.\(key).weight"] = try HostTensor(
          [Float](repeating: key == "in" ? 0.5 : value, count: shape.reduce(1, *)), shape)
      }
      for (file, bytes) in try ConditionAdapter(sizes, base: name, weights: weights).files() {
        try shell.folder.write("voice/" + file, Data(bytes))
      }
    }
    try shell.folder.write(
      "f0.json",
      #"{"step":0.0002,"f0":["# + [String](repeating: "440", count: 200).joined(separator: ",") + "]}")
    let name = BaseName.of([digest])
    try write(name, 0)
    #expect(
      try latents(shell, "--conditions", "voice", "--f0", "f0.json") == base,
      "before training nothing changes")
    try write(name, 0.5)
    #expect(try latents(shell, "--conditions", "voice") == base, "of a song without pitch nothing is said")
    #expect(try latents(shell, "--conditions", "voice", "--f0", "f0.json") != base)
    #expect(try latents(shell) == base)
    try write("flow/0000000000000000", 0.5)
    let refused = try shell("sample", "m", "--latents", "z", "--frames", "5", "--conditions", "voice")
    #expect(
      refused.code == 2 && refused.error.contains("the conditions were trained for 'flow/0000000000000000'"))
    #expect(try shell("sample", "m", "--latents", "z", "--f0", "f0.json").error.contains("--conditions"))
  }

  @Test func anAdapterOfAnotherBaseIsRefused() throws {
    let shell = try SampleTests.project()
    let config = try JSON(parsing: Data(shell.folder.text("vocal/adapter_config.json").utf8))
    guard case .object(var fields) = config else { return }
    fields["base_model_name_or_path"] = "flow/0123456789abcdef"
    try shell.folder.write("vocal/adapter_config.json", JSON.object(fields).pretty)
    let refused = try shell("sample", "m", "--latents", "z", "--adapter", "vocal", "--frames", "5")
    #expect(refused.code == 2, "\(refused.error)")
    #expect(refused.error.contains("trained on 'flow/0123456789abcdef', but the base is 'flow/"))
    #expect(refused.error.contains("give the base that the adapter was trained on"))
    #expect(shell.folder.read("z") == nil)
    // One for other sizes: which key, and both shapes.
    fields["base_model_name_or_path"] = .null
    try shell.folder.write("vocal/adapter_config.json", JSON.object(fields).pretty)
    let path = shell.folder.path + "/vocal/adapter_model.safetensors"
    var weights = try WeightFile.read(path)
    let key = "base_model.model.transformer.transformer_blocks.0.self_attn.q_proj.lora_A.weight"
    let rank = try #require(weights[key]?.shape.first)
    weights[key] = try HostTensor([Float](repeating: 0, count: rank * 32), [rank, 32])
    try Safetensors.write(weights, to: path)
    let other = try shell("sample", "m", "--latents", "z", "--adapter", "vocal", "--frames", "5")
    #expect(other.code == 2 && other.error.contains("'\(key)' has shape [\(rank), 32], but the base needs"))
  }

  @Test func aDamagedModelIsRefused() throws {
    let shell = try SampleTests.project()
    let weights = try #require(shell.folder.read("m/model.safetensors"))
    let config = shell.folder.text("m/model.json")
    func refusal(_ words: String..., command: [String] = ["sample", "m", "--latents", "z", "--frames", "5"])
      throws
    {
      let result = try shell.run(command)
      #expect(result.code == 2, "\(result.error)")
      for word in words { #expect(result.error.contains(word), "\(word) in \(result.error)") }
      #expect(result.out.isEmpty && shell.folder.read("z") == nil)
    }
    // Fetched in part: whatever is left of it.
    for count in [0, 4, 1000, weights.count / 2, weights.count - 1] {
      try shell.folder.write("m/model.safetensors", weights.prefix(count))
      try refusal("m/model.safetensors", "fetch it again")
    }
    try shell.folder.write("m/model.safetensors", weights)
    // Sizes that are not those of the weights: the key, what was found, what was expected.
    try shell.folder.write("m/model.json", config.replacing("\"dim\": 64", with: "\"dim\": 128"))
    try refusal("has shape [64, 64], but the model's is [128, 64]", "m/model.safetensors")
    try shell.folder.write("m/model.json", config.replacing("\"depth\": 3", with: "\"depth\": 4"))
    try refusal("the weights lack 'transformer.transformer_blocks.3.input_layernorm.weight'")
    try shell.folder.write("m/model.json", config.replacing("\"depth\": 3", with: "\"depth\": 2"))
    try refusal("the model has no 'transformer.transformer_blocks.2.")
    try shell.folder.write("m/model.json", config.replacing("\"heads\": 4,", with: ""))
    try refusal("m/model.json: 'heads' is missing")
    try shell.folder.write("m/model.json", config.replacing("\"heads\": 4", with: "\"heads\": \"four\""))
    try refusal("m/model.json: 'heads' is not of the type Int")
    try shell.folder.write("m/model.json", "{")
    try refusal("m/model.json: it is not JSON")
    try shell.folder.write("m/model.json", config.replacing("\"mel_dim\": 16", with: "\"mel_dim\": 8"))
    try refusal("the decoder takes latents of 16 channels", command: ["sample", "m", "-o", "z"])
    try shell.folder.write("m/model.json", config)
    try shell.folder.write(
      "m/decoder.bin", Data(try #require(shell.folder.read("m/decoder.bin")).prefix(9000)))
    try refusal("m/decoder.bin", command: ["sample", "m", "-o", "z"])
    try FileManager.default.removeItem(atPath: shell.folder.path + "/m/decoder.bin")
    try refusal("there is no m/decoder.safetensors", command: ["sample", "m", "-o", "z"])
    try refusal("there is no nowhere", command: ["sample", "nowhere", "--latents", "z"])
  }

  @Test func badRequestsAreSaid() throws {
    let shell = try SampleTests.project()
    try shell.folder.write("ids.txt", "500, 511\n12 x7 511\n")
    try shell.folder.write("far.txt", "500 9000")
    try Safetensors.write(
      ["style": HostTensor([Float](repeating: 0, count: 8), [8])], to: shell.folder.path + "/s")
    try Safetensors.write(
      ["noise.0": HostTensor([Float](repeating: 0, count: 80), [5, 16])], to: shell.folder.path + "/n")
    for (words, reason, code) in [
      (["--tokens", "ids.txt"], "ids.txt:2:4", 2), (["--tokens", "far.txt"], "token 2 is 9000", 2),
      (["--style", "s"], "the style has 8 numbers, the model wants 64", 2),
      (["--noise", "n", "--frames", "6"], "'noise.1' is missing; 2 blocks of [5, 16] are needed", 2),
      (["--steps", "1"], "--steps", 2), (["--guidance", "-1"], "--guidance", 2),
      (["--adapter", "nothing"], "nothing has no adapter_config.json", 2),
      (["--lyrics", "nothing"], "can't read nothing", 2),
      (["-o", "no/where.wav"], "can't write no/where.wav", 1),
    ] as [([String], String, Int32)] {
      let result = try shell.run(["sample", "m", "--latents", "z", "--frames", "5"] + words)
      #expect(result.code == code && result.error.contains(reason), "\(words): \(result.error)")
      #expect(shell.folder.read("z") == nil)
    }
    #expect(try shell("sample", "m").error.contains("--output or --latents"))
    // Weights that are not numbers.
    let path = shell.folder.path + "/m/model.safetensors"
    var weights = try WeightFile.read(path)
    weights["transformer.proj_out.bias"] = try HostTensor([Float](repeating: .nan, count: 16), [16])
    try Safetensors.write(weights, to: path)
    let result = try shell("sample", "m", "--latents", "z", "--frames", "5")
    #expect(
      result.code == 2 && result.error.contains("latents are not numbers in block 1"), "\(result.error)")
  }
}
