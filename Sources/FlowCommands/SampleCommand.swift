import ArgumentParser
import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowStages
import FlowStore
import FlowTensor
import Foundation

struct SampleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sample", abstract: "Samples a song from a model.",
    discussion: """
      flow sample DiffRhythm2 -o song.wav --lyrics words.txt --style style.safetensors
      flow sample runs/vocal/weights -o song.wav --lyrics words.txt --prompt 'folk song' --seconds 10
      flow sample base -o song.wav --lyrics words.lrc --adapter vocal --adapter folk=0.5 --steps 32

      A model is a folder with model.json and decoder.json, and for each a .safetensors, shards and their index, or a .bin of
      torch.save. docs/diffrhythm2.md says what is done as the reference does it, and what isn't.
      """)
  @Argument(help: "The model's folder.", completion: .directory) var model: String
  @Option(name: .shortAndLong, help: "The WAV file to write (16 bit, the decoder's rate).") var output:
    String?
  @Option(help: "The safetensors file to write the latents to, [1, frames, channels].") var latents: String?
  @Option(help: "The decoder's folder, if it isn't the model's.") var decoder: String?
  @OptionGroup var words: SongWords
  @Option(help: "A safetensors file with the style vector: its tensor 'style', or its only one.") var style:
    String?
  @Option(
    help: "Words for the style, hashed (hashed-prompt-v1): only a model trained on such styles knows them.")
  var prompt: String?
  @Option(help: "Points of the time grid: one more than Euler steps.") var steps = 16
  @Option(help: "Strength g of v = cond + g (cond - null); 0 is off.") var guidance = 2.0
  @Option(help: "Most seconds, in whole blocks; the song may end itself before.") var seconds = 210.0
  @Option(help: "The same in latent frames.") var frames: Int?
  @Option(help: "Draws the noise.") var seed = 0
  @Option(help: "An adapter: FOLDER, or FOLDER=STRENGTH. May be repeated.") var adapter: [String] = []
  @OptionGroup var voice: SongVoice
  @Option(
    help: "A safetensors file with the noise of each block, noise.0, noise.1, …: [block size, channels].")
  var noise: String?
  @Flag(help: "Drops the frame before the end frames, as the reference does.") var referenceEnd = false
  @Flag(help: "Two channels, the right one later and softer, as the reference's option.") var fakeStereo =
    false
  @Option(help: "Threads; all processors unless said.") var threads: Int?
  @Option(help: "What it computes on: cpu, cuda, or auto for either.") var device = DeviceKind.cpu
  @Option(help: "How a CUDA device computes: float32, tf32 or bfloat16.") var precision =
    DevicePrecision.bfloat16
  @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

  func validate() throws {
    if output == nil, latents == nil { throw ValidationError("--output or --latents says what to write") }
    if style != nil, prompt != nil { throw ValidationError("--style and --prompt are two styles; give one") }
    if let frames, !(1...1_000_000).contains(frames) { throw ValidationError("--frames takes 1 to 1000000") }
    if !(seconds > 0 && seconds <= 36_000) { throw ValidationError("--seconds takes a number up to 36000") }
    if steps < 2 { throw ValidationError("--steps takes 2 or more: they are points, one more than steps") }
    if !(guidance >= 0) || !guidance.isFinite { throw ValidationError("--guidance takes 0 or more") }
  }

  func run() async throws {
    try await reporting(json: json) {
      for path in [output, latents].compactMap({ $0 }) { try OutputFile.check(path) }
      let backend = try chosen()
      let files = try Weights.explained(model) { try PublishedFiles(model, "model") }
      let config = try Weights.explained(files.config) { try files.sizes(DiTConfig.self) }
      let speaker = output == nil ? nil : try Voice(decoder ?? model, backend, channels: config.melDim)
      let parts = try adapter.map(AdapterCommand.Part.init)
      let told = try voice.adapter()
      let isNamed = told != nil || parts.contains { BaseName.isGiven($0.adapter) }
      let name = isNamed ? try files.name() : nil
      try Weights.explained(voice.conditions ?? "") { try told?.check(config, named: name) }
      let song = try Weights.explained(files.weights.joined(separator: ", ")) {
        try SongModel(
          config, store: files.store(on: backend),
          adapters: parts.map { (adapter: $0.adapter, strength: $0.strength) }, conditions: told,
          named: { BaseName.isGiven($0) ? name : nil })
      }
      var request = SongRequest(
        tokens: try words.ids(), style: try vector(config.condDim),
        frames: frames ?? max(1, Int(seconds * (speaker?.framesPerSecond ?? 5))))
      request.steps = steps
      request.guidance = Float(guidance)
      request.keepsLastFrame = !referenceEnd
      request.voice = try voice.told(
        rate: speaker?.framesPerSecond ?? 5, frames: request.frames, SampleCommand.vector)
      let noise = try given(config, blocks: song.blocks(frames: request.frames))
      let progress = SongProgress(quiet: json)
      let result = try Weights.explained(model) {
        try song.sample(request, progress: progress.block, noise: noise)
      }
      progress.end()
      if let latents { try Weights.write(["latents": result], to: latents) }
      let audio = try output.flatMap { path in
        try speaker.map { try SongWriter.write($0.wave(result), to: path, isStereo: fakeStereo) }
      }
      SongWriter.report(
        audio, at: output, latents: latents, frames: result.shape[1], asked: request.frames, json: json)
    }
  }

  /// What it computes on.
  private func chosen() throws -> any Backend {
    do {
      return try Devices.backend(
        device, precision, threads: threads ?? ProcessInfo.processInfo.activeProcessorCount,
        say: Terminal.error)
    } catch {
      throw Diagnostics([
        Diagnostic(
          code: "E035", "there is no CUDA device: \(error)",
          help: "'flow doctor' says what was looked for; '--device auto' takes the CPU where there is none")
      ])
    }
  }

  /// The style vector; empty when nothing is said of it.
  private func vector(_ width: Int) throws -> [Float] {
    if let style { return try SampleCommand.vector(style) }
    if let prompt {
      Terminal.error("style: '\(prompt)' by \(PromptHash.name), hashed words without a trained encoder")
      return PromptHash.vector(prompt, width: width)
    }
    Terminal.error("style: none (the zero vector, as in the null branch)")
    return []
  }

  /// The tensor 'style' of a safetensors file, or its only one.
  private static func vector(_ path: String) throws -> [Float] {
    try Weights.explained(path) {
      let file = try SafetensorsFile(path: path)
      guard file.entries["style"] != nil || file.names.count == 1 else {
        throw SongError.request("has no tensor 'style' (it has \(file.names.joined(separator: ", ")))")
      }
      return try file.tensor(file.entries["style"] == nil ? file.names[0] : "style").floats
    }
  }

  /// The noise of each block: given, or drawn from the seed.
  private func given(_ config: DiTConfig, blocks: Int) throws -> (Int) throws -> [Float] {
    let count = config.blockSize * config.melDim
    guard let noise else {
      let seed = UInt64(bitPattern: Int64(seed))
      return { block in
        var random = Philox(seed: seed, label: "noise \(block)")
        return (0..<count).map { _ in Float(random.normal()) }
      }
    }
    return try Weights.explained(noise) {
      let file = try SafetensorsFile(path: noise)
      for block in 0..<blocks {
        guard let shape = file.entries["noise.\(block)"]?.shape, shape.reduce(1, *) == count else {
          let found = file.entries["noise.\(block)"].map { "has shape \($0.shape)" } ?? "is missing"
          throw SongError.request(
            "'noise.\(block)' \(found); \(blocks) blocks of [\(config.blockSize), \(config.melDim)] are needed"
          )
        }
      }
      return { try file.tensor("noise.\($0)").floats }
    }
  }
}

/// The decoder of a song.
struct Voice {
  private let config: VocoderConfig
  private let decoder: VocoderDecoder

  init(_ folder: String, _ backend: any Backend, channels: Int) throws {
    let files = try Weights.explained(folder) { try PublishedFiles(folder, "decoder") }
    config = try Weights.explained(files.config) { try files.sizes(VocoderConfig.self) }
    let (config, path) = (config, files.weights.joined(separator: ", "))
    decoder = try Weights.explained(path) {
      guard config.inChannels == channels else {
        throw SongError.request(
          "the decoder takes latents of \(config.inChannels) channels, the model makes \(channels)")
      }
      let store = try Vocoder.unfolded(files.store(on: backend))
      try Vocoder.accept(store, config)
      return try VocoderDecoder(config, store: store, prefix: "")
    }
  }

  var framesPerSecond: Double { Double(config.samplingRate) / Double(config.hop) }

  func wave(_ latents: HostTensor) throws -> AudioBuffer {
    AudioBuffer(try decoder.decode(latents.columns()), sampleRate: config.samplingRate)
  }
}
