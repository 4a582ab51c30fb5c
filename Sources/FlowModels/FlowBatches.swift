import FlowCore
import FlowNN
import FlowTensor
import Synchronization

/// Makes batches of one static shape out of songs: latents padded with ones to whole blocks (the end-of-prediction frames
/// of spec 4.2, at least one), then masked padding.
struct FlowBatches: Sendable {
  private let settings: FlowTraining
  private let songs: [FlowSong]
  private let part: BatchPart
  private let textCount: Int
  private let latentCount: Int
  private let phoneCount: Int
  private let masks = Masks()

  /// The last mask: batches whose songs are as long have the same memory, which isn't copied to the device again.
  private final class Masks: Sendable {
    let last = Mutex<(texts: [Int], latents: [Int], mask: HostTensor)?>(nil)
  }

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
      if let sizes = settings.conditions, let why = song.voice.misfit(sizes) {
        throw TrainingError.data("song \(index + 1) has \(why)")
      }
    }
    self.settings = settings
    self.songs = songs
    self.part = part
    let most = max(1, settings.maxFrames / size) * size
    latentCount = songs.map { min(most, ($0.latents.shape[0] / size + 1) * size) }.max() ?? size
    textCount = max(1, songs.map { min(settings.maxTokens, $0.tokens.count) }.max() ?? 1)
    let frames = latentCount
    phoneCount = max(1, songs.map { FlowBatches.labels($0, frames).count }.max() ?? 1)
  }

  /// The phones that begin in a song's first `frames` frames.
  private static func labels(_ song: FlowSong, _ frames: Int) -> [Int32] {
    let end = Double(min(frames, song.latents.shape[0]))
    return song.voice.phones.filter { $0.start < end && (1...LyricTokens.phoneCount).contains(Int($0.id)) }
      .map(\.id)
  }

  private var maskCount: Int { textCount + 2 * latentCount }

  /// The losses of a batch, each a scalar.
  struct Losses {
    /// Flow matching alone.
    var flow: Tensor
    /// All of them, each times its weight.
    var total: Tensor
    /// Each by its name, when there are several.
    var terms: [String: Tensor]
  }

  func losses(_ list: ParameterList) throws(TensorError) -> Losses {
    let (graph, size, config) = (list.graph, part.rows.count, settings.model)
    let latents = [size, latentCount, config.melDim]
    var batch = try FlowMatching.Batch(
      text: graph.input("text", [size, textCount], .int32), clean: graph.input("clean", latents),
      noisy: graph.input("noisy", latents), time: graph.input("time", [size, latentCount]),
      target: graph.input("target", latents), style: graph.input("style", [size, config.condDim]),
      mask: graph.input("mask", [size, 1, maskCount, maskCount], .bool),
      valid: graph.input("valid", [size, latentCount]))
    if let sizes = settings.conditions {
      let networks = Conditions(sizes, list)
      let features = try networks.inputs(graph, batch: size, frames: latentCount)
      batch.addition = try networks.frames(features)
      batch.style = try networks.style(batch.style, singer: features[.singer])
    }
    let objective = try FlowMatching.loss(
      DiT(config, list.scope["transformer"], recomputes: settings.recomputes), batch)
    guard settings.alignmentWeight > 0 || settings.pitchWeight > 0 else {
      let loss = objective.loss
      return Losses(
        flow: loss, total: settings.flowWeight == 1 ? loss : try loss * Float(settings.flowWeight), terms: [:]
      )
    }
    let voice = VoiceLoss(
      scope: list.scope[VoiceLoss.scope], known: try graph.input("known", [size, latentCount]),
      count: try batch.valid.total())
    let left = try (1 - batch.time).reshaped([size, latentCount, 1])
    let predicted = try batch.noisy + objective.velocity * left
    var terms = ["flow": objective.loss]
    var total = try objective.loss * Float(settings.flowWeight)
    if settings.alignmentWeight > 0 {
      let labels = try graph.input("labels", [size, phoneCount], .int32)
      let isLabelled = try graph.input("labelled", [size])
      let loss = try voice.alignment(predicted, labels: labels, isLabelled: isLabelled)
      let truth = try voice.alignment(batch.clean, labels: labels, isLabelled: isLabelled)
      total = try total + (loss + truth) * Float(settings.alignmentWeight)
      terms["alignment"] = loss
    }
    if settings.pitchWeight > 0 {
      let pitch = try graph.input("pitch", [size, latentCount, 2 * SongConditions.slots])
      let isKnown = try graph.input("pitched", [size])
      let loss = try voice.pitch(predicted, truth: pitch, isKnown: isKnown)
      let truth = try voice.pitch(batch.clean, truth: pitch, isKnown: isKnown)
      total = try total + (loss + truth) * Float(settings.pitchWeight)
      terms["pitch"] = loss
    }
    return Losses(flow: objective.loss, total: total, terms: terms)
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
    var features: [ConditionSizes.Kind: [Float]] = [:]
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
      for kind in settings.conditions?.kinds ?? [] {
        let isDropped = random.uniform() < settings.styleDropout && dropout
        let known = isDropped ? SongConditions() : song.voice
        let width = settings.conditions?.width(kind) ?? 0
        features[kind, default: []] += known.features(kind, 0..<latentCount, width: width)
      }
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
    var inputs: [String: HostTensor] = [:]
    for (kind, values) in features {
      inputs[Conditions.input(kind)] = try HostTensor(
        values,
        kind.isPerFrame
          ? [count, latentCount, values.count / count / latentCount] : [count, values.count / count])
    }
    try voice(chosen[part.rows.clamped(to: chosen.indices)].map { songs[$0] }, &inputs)
    let others: [String: HostTensor] = try [
      "text": HostTensor(text, [count, textCount]), "clean": HostTensor(clean, shape),
      "noisy": HostTensor(noisy, shape), "time": HostTensor(time, [count, latentCount]),
      "target": HostTensor(target, shape), "style": HostTensor(style, [count, config.condDim]),
      "valid": HostTensor(valid, [count, latentCount]),
      // The loss is a mean over valid frames.
      TrainingStep.share: HostTensor([Float(frames.own) / Float(frames.all)], []),
      "mask": mask(textLengths, latentLengths),
    ]
    return inputs.merging(others) { $1 }
  }

  private func mask(_ texts: [Int], _ latents: [Int]) throws(TensorError) -> HostTensor {
    if let last = masks.last.withLock({ $0 }), last.texts == texts, last.latents == latents {
      return last.mask
    }
    let mask = try FlowMatching.mask(
      textCount: textCount, latentCount: latentCount, blockSize: settings.model.blockSize, textLengths: texts,
      latentLengths: latents)
    masks.last.withLock { $0 = (texts, latents, mask) }
    return mask
  }

  /// What the losses of the voice compare with.
  private func voice(_ songs: [FlowSong], _ inputs: inout [String: HostTensor]) throws(TensorError) {
    guard settings.alignmentWeight > 0 || settings.pitchWeight > 0 else { return }
    let known = songs.flatMap { song in
      (0..<latentCount).map { Float($0 < song.latents.shape[0] ? 1 : 0) }
    }
    inputs["known"] = try HostTensor(known, [songs.count, latentCount])
    if settings.alignmentWeight > 0 {
      let labels = songs.map { FlowBatches.labels($0, latentCount) }
      let padded = labels.flatMap { $0 + [Int32](repeating: 0, count: phoneCount - $0.count) }
      inputs["labels"] = try HostTensor(padded, [songs.count, phoneCount])
      inputs["labelled"] = try HostTensor(labels.map { Float($0.isEmpty ? 0 : 1) }, [songs.count])
    }
    if settings.pitchWeight > 0 {
      let width = 2 * SongConditions.slots
      let pitch = songs.flatMap { $0.voice.features(.f0, 0..<latentCount, width: width) }
      inputs["pitch"] = try HostTensor(pitch, [songs.count, latentCount, width])
      inputs["pitched"] = try HostTensor(songs.map { Float($0.voice.f0.isEmpty ? 0 : 1) }, [songs.count])
    }
  }

  /// The frames of a song that count.
  private func length(_ song: FlowSong) -> Int {
    let size = settings.model.blockSize
    return min(latentCount, (song.latents.shape[0] / size + 1) * size)
  }

  /// Draws what a song of another rank's part takes.
  private func pass(_ random: inout Philox) {
    let (size, channels) = (settings.model.blockSize, settings.model.melDim)
    for _ in 0..<2 + (settings.conditions?.kinds.count ?? 0) { _ = random.uniform() }
    for _ in 0..<latentCount / size {
      _ = random.uniform()
      for _ in 0..<size * channels { _ = random.normal() }
    }
  }
}
