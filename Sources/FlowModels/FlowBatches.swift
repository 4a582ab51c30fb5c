import FlowCore
import FlowNN
import FlowTensor

/// Makes batches of one static shape out of songs: latents padded with ones to whole blocks (the end-of-prediction frames
/// of spec 4.2, at least one), then masked padding.
struct FlowBatches {
  private let settings: FlowTraining
  private let songs: [FlowSong]
  private let part: BatchPart
  private let textCount: Int
  private let latentCount: Int

  init(_ settings: FlowTraining, songs: [FlowSong], part: BatchPart) throws {
    let (config, size) = (settings.model, settings.model.blockSize)
    for (index, song) in songs.enumerated() {
      guard song.latents.shape.count == 2, song.latents.shape[1] == config.melDim, song.latents.shape[0] > 0
      else {
        throw TrainingError.data(
          "song \(index + 1) has latents \(song.latents.shape), not [frames, \(config.melDim)]")
      }
      guard song.style.count == config.condDim else {
        throw TrainingError.data(
          "song \(index + 1) has a style of \(song.style.count), not \(config.condDim)")
      }
      if let bad = song.tokens.first(where: { $0 < 0 || Int($0) > config.textNumEmbeds }) {
        throw TrainingError.data(
          "song \(index + 1) has the token \(bad), outside 0...\(config.textNumEmbeds)")
      }
    }
    self.settings = settings
    self.songs = songs
    self.part = part
    let most = max(1, settings.maxFrames / size) * size
    latentCount = songs.map { min(most, ($0.latents.shape[0] / size + 1) * size) }.max() ?? size
    textCount = max(1, songs.map { min(settings.maxTokens, $0.tokens.count) }.max() ?? 1)
  }

  private var maskCount: Int { textCount + 2 * latentCount }

  func loss(_ list: ParameterList) throws(TensorError) -> Tensor {
    let (graph, size, config) = (list.graph, part.rows.count, settings.model)
    let latents = [size, latentCount, config.melDim]
    let batch = try FlowMatching.Batch(
      text: graph.input("text", [size, textCount], .int32), clean: graph.input("clean", latents),
      noisy: graph.input("noisy", latents), time: graph.input("time", [size, latentCount]),
      target: graph.input("target", latents), style: graph.input("style", [size, config.condDim]),
      mask: graph.input("mask", [size, 1, maskCount, maskCount], .bool),
      valid: graph.input("valid", [size, latentCount]))
    return try FlowMatching.loss(
      DiT(config, list.scope["transformer"], recomputes: settings.recomputes), batch
    ).loss
  }

  /// The inputs for this rank's part of the songs `chosen`; times, noise and dropped conditions come from `random`, which goes
  /// on by the whole batch on every rank.
  func inputs(_ chosen: [Int], _ random: inout Philox, dropout: Bool) throws(TensorError)
    -> [String: HostTensor]
  {
    let (config, channels) = (settings.model, settings.model.melDim)
    let size = config.blockSize
    var text: [Int32] = []
    var (clean, noisy, target, time): ([Float], [Float], [Float], [Float]) = ([], [], [], [])
    var (style, valid): ([Float], [Float]) = ([], [])
    var (textLengths, latentLengths): ([Int], [Int]) = ([], [])
    var frames: (own: Int, all: Int) = (0, 0)
    for (row, index) in chosen.enumerated() {
      let song = songs[index]
      let length = length(song)
      frames.all += length
      guard part.rows.contains(row) else {
        pass(&random)
        continue
      }
      frames.own += length
      let tokens = Array(song.tokens.prefix(textCount))
      let (dropsText, dropsStyle) = (random.uniform(), random.uniform())
      let withoutText = dropout && dropsText < settings.textDropout
      text += withoutText ? [Int32](repeating: LyricTokens.filler, count: tokens.count) : tokens
      text += [Int32](repeating: LyricTokens.filler, count: textCount - tokens.count)
      let withoutStyle = dropout && dropsStyle < settings.styleDropout
      style += withoutStyle ? [Float](repeating: 0, count: config.condDim) : song.style
      let known = min(song.latents.shape[0], length)
      let x1 =
        Array(song.latents.floats.prefix(known * channels))
        + [Float](repeating: 1, count: (latentCount - known) * channels)
      clean += x1
      for block in 0..<latentCount / size {
        let t = Float(random.uniform())
        time += [Float](repeating: t, count: size)
        for i in block * size * channels..<(block + 1) * size * channels {
          let x0 = Float(random.normal())
          noisy.append((1 - t) * x0 + t * x1[i])
          target.append(x1[i] - x0)
        }
      }
      valid += (0..<latentCount).map { $0 < length ? 1 : 0 }
      textLengths.append(tokens.count)
      latentLengths.append(length)
    }
    let count = part.rows.count
    let shape = [count, latentCount, channels]
    return try [
      "text": HostTensor(text, [count, textCount]), "clean": HostTensor(clean, shape),
      "noisy": HostTensor(noisy, shape), "time": HostTensor(time, [count, latentCount]),
      "target": HostTensor(target, shape), "style": HostTensor(style, [count, config.condDim]),
      "valid": HostTensor(valid, [count, latentCount]),
      // The loss is a mean over valid frames.
      TrainingStep.share: HostTensor([Float(frames.own) / Float(frames.all)], []),
      "mask": FlowMatching.mask(
        textCount: textCount, latentCount: latentCount, blockSize: size, textLengths: textLengths,
        latentLengths: latentLengths),
    ]
  }

  /// The frames of a song that count.
  private func length(_ song: FlowSong) -> Int {
    let size = settings.model.blockSize
    return min(latentCount, (song.latents.shape[0] / size + 1) * size)
  }

  /// Draws what a song of another rank's part takes.
  private func pass(_ random: inout Philox) {
    let (size, channels) = (settings.model.blockSize, settings.model.melDim)
    for _ in 0..<2 { _ = random.uniform() }
    for _ in 0..<latentCount / size {
      _ = random.uniform()
      for _ in 0..<size * channels { _ = random.normal() }
    }
  }
}
