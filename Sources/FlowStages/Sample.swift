import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor

/// `sample`: lyrics and style to a song.
struct Sample: Stage {
  static let name = "sample"
  struct Parameters: Decodable, Sendable {
    var seconds: Double
    var steps: Int
    var guidance: Double
    var tokens: Int
    var seed: Int
    var device: DeviceKind
    var precision: DevicePrecision
  }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let backend = try context.backend(parameters.device, parameters.precision)
    let model = try NetworkFiles(context, "model", .model)
    let vocoder = try NetworkFiles(context, "vocoder", .decoder)
    let config = try model.config(DiTConfig.self)
    let decoder = try vocoder.config(VocoderConfig.self)
    let tokens = try Array(
      (context.optionalInput("lyrics").map(ModelFiles.tokens) ?? []).prefix(parameters.tokens))
    let style =
      try context.optionalInput("style").map { try ModelFiles.tensor($0, ModelFiles.style, "style").floats }
      ?? []
    let frames = max(1, Int(parameters.seconds * Double(decoder.samplingRate) / Double(decoder.hop)))
    var request = SongRequest(tokens: tokens, style: style, frames: frames)
    request.steps = parameters.steps
    request.guidance = Float(parameters.guidance)
    let told = try context.items("conditions").first.map(VoiceFiles.adapter)
    try told?.check(config, named: model.name)
    if told != nil {
      let rate = Double(decoder.samplingRate) / Double(decoder.hop)
      // The only item of an input has no name here.
      request.voice = try VoiceFiles(context).voice("", rate: rate, frames: frames)
    }
    let adapters = try context.items("adapter").map { (adapter: try NetworkFiles.adapter($0), strength: 1.0) }
    let song = try SongModel(
      config, store: model.store(on: backend), adapters: adapters, conditions: told,
      named: { BaseName.isGiven($0) ? model.name : nil })
    let latents = try song.sample(
      request,
      progress: { block, blocks in
        context.progress(Double(block) / Double(blocks), "block \(block + 1) of \(blocks)")
        try context.checkCancelled()
      },
      noise: { block in
        var random = context.random("noise \(block)")
        return (0..<config.blockSize * config.melDim).map { _ in Float(random.normal()) }
      })
    let voice = try Vocoder.unfolded(vocoder.store(on: backend))
    try Vocoder.accept(voice, decoder)
    var wave = try VocoderDecoder(decoder, store: voice, prefix: "")
      .decode(latents.columns())
    let peak = wave.reduce(0) { max($0, abs($1)) }
    guard peak.isFinite, peak > 1e-4 else {
      throw StageFailure("the song is silent (peak \(peak))", help: "train the vocoder for more steps")
    }
    // The decoder limits its waves to ±1; what stands at the limit is lost.
    let limited = wave.count { abs($0) >= 0.999 }
    context.metric("clipped_share", Double(limited) / Double(wave.count))
    // A weak model is quiet or clamped; either way the file peaks at -1 dBFS.
    let gain = 0.891 / peak
    for i in wave.indices { wave[i] *= gain }
    let audio = AudioBuffer(wave, sampleRate: decoder.samplingRate)
    context.metric("peak", Double(audio.peak))
    context.metric("rms", audio.rms)
    context.metric("gain", Double(gain))
    context.metric("seconds", audio.duration)
    let file = try context.file(audio, Files.audio, format: .wavPCM16)
    try context.emit("samples", files: [Files.audio: file])
  }
}
