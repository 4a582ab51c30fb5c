import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCPU
import Foundation

/// What the model stages read and write: the names of files and their contents.
enum ModelFiles {
  static let latents = "latents.safetensors"
  static let style = "style.safetensors"
  static let model = "model.safetensors"
  static let modelConfig = "model.json"
  static let decoder = "decoder.safetensors"
  static let decoderConfig = "decoder.json"
  static let encoder = "encoder.safetensors"
  static let encoderConfig = "encoder.json"

  /// The mono wave of an item at `rate`.
  static func wave(_ item: InputItem, rate: Int) throws -> [Float] {
    try item.audio(item.has(Files.audio) ? Files.audio : nil).resampled(to: rate).mono
  }

  /// The tensor `name` of a safetensors file of the item.
  /// - Throws: `StageFailure` that names the item when it can't be read or has something else than numbers.
  static func tensor(_ item: InputItem, _ file: String, _ name: String) throws -> HostTensor {
    let place = (item.item.id.isEmpty ? "" : "'\(item.item.id)': ") + file
    let tensor: HostTensor
    do { tensor = try SafetensorsFile(path: item.path(file)).tensor(name) } catch let error
      as SafetensorsError
    {
      throw StageFailure("\(place): \(error)", help: "make or fetch that file again")
    }
    if let bad = tensor.floats.firstIndex(where: { !$0.isFinite }) {
      let row =
        tensor.shape.last.map { $0 > 0 && tensor.shape.count > 1 ? " (row \(bad / $0 + 1))" : "" } ?? ""
      throw StageFailure(
        "\(place): number \(bad + 1) of '\(name)'\(row) is \(tensor.floats[bad]), and nothing can be learnt from that",
        help: "make it again, or take the item out of the data set")
    }
    return tensor
  }

  /// A configuration of the item.
  static func config<T: Decodable>(_ item: InputItem, _ file: String, _ type: T.Type) throws -> T {
    try PublishedFiles.document(item.path(file), type)
  }

  /// The text of a configuration.
  static func text(_ config: some Encodable) throws -> FileContent {
    .text(try JSON(encoding: config).pretty + "\n")
  }

  /// The items of a training and which of them are held out.
  struct Split {
    /// In an order that depends on contents, not on names.
    var items: [InputItem]
    /// Indices of the held-out items.
    var heldOut: Set<Int>
  }

  /// Splits by song: of each data set (`part`) a `share` is held out, at least one when there are three or more (of a share of
  /// 0, none: what is learnt validates), and all variants of a song (`take~1` is one of `take`) fall on the same side, or the
  /// held-out loss would measure memory.
  static func split(_ items: [InputItem], seed: UInt64, share: Double) -> Split {
    var result = Split(items: [], heldOut: [])
    for (part, items) in Dictionary(grouping: items, by: part).sorted(by: { $0.key < $1.key }) {
      let songs = Dictionary(grouping: items) { $0.item.id.split(separator: "~").first ?? "" }
      let keyed = songs.values.map { variants in
        let sorted = variants.sorted { contents($0) < contents($1) }
        return (key: sorted.map(contents).joined(), variants: sorted)
      }.sorted { $0.key < $1.key }
      var random = Philox(seed: seed, label: part == 0 ? "held out" : "held out \(part)")
      let held = share > 0 ? max(1, Int(Double(keyed.count) * share)) : 0
      let chosen = Set(Array(0..<keyed.count).shuffled(using: &random).prefix(held))
      for (index, song) in keyed.enumerated() {
        for item in song.variants {
          if keyed.count >= 3, chosen.contains(index) { result.heldOut.insert(result.items.count) }
          result.items.append(item)
        }
      }
    }
    return result
  }

  /// What is known of the item `id` among `known`, or of what it is a variant of: `take~1~clip2` of `take~1` of `take`.
  static func ofSong<T>(_ id: String, _ known: [String: T]) -> T? {
    var name = id[...]
    while known[String(name)] == nil {
      guard let mark = name.lastIndex(of: "~") else { return nil }
      name = name[..<mark]
    }
    return known[String(name)]
  }

  /// The how-manieth of the data sets the item is of, from 0.
  static func part(_ item: InputItem) -> Int {
    guard case .int(let part)? = item.item.attributes[StageDeclaration.part] else { return 0 }
    return part
  }

  private static func contents(_ item: InputItem) -> String { item.item.files.map(\.digest.hex).joined() }

  /// The token ids of an item of type `lyrics`: of its `lyrics.json`, or of plain text by flow's own rules.
  static func tokens(_ item: InputItem) throws -> [Int32] {
    if item.has("lyrics.json") { return try config(item, "lyrics.json", LyricsFile.self).ids }
    let path = try item.path(extensions: ArtifactType.lyrics.sourceExtensions)
    let text = try String(contentsOfFile: path, encoding: .utf8)
    return try LyricTexts.read(text, file: "lyrics", espeak: nil).ids
  }

  /// The losses of a training as a table, a picture, and for TensorBoard; and its previews.
  static func losses(
    _ history: [TrainingPoint], title: String, previews: Previews
  ) throws -> [String: FileContent] {
    let isOpposed = history.contains { $0.opponent != nil }
    let terms = Set(history.flatMap { $0.terms?.keys.sorted() ?? [] }).sorted()
    var table = "step,loss,gradient_norm,rate,validation\(isOpposed ? ",discriminators" : "")"
    table += terms.map { "," + $0 }.joined() + "\n"
    for point in history {
      let validation = point.validation.map { "\($0)" } ?? ""
      table += "\(point.step),\(point.loss),\(point.gradientNorm),\(point.rate),\(validation)"
      table += isOpposed ? ",\(point.opponent.map { "\($0)" } ?? "")" : ""
      table += terms.map { name in "," + (point.terms?[name].map { "\($0)" } ?? "") }.joined() + "\n"
    }
    let training = history.map { (step: $0.step, value: Double($0.loss)) }
    let held = history.compactMap { point in point.validation.map { (step: point.step, value: Double($0)) } }
    let opposed = history.compactMap { point in point.opponent.map { (step: point.step, value: Double($0)) } }
    let curves =
      [("training", training), ("held out", held)] + (isOpposed ? [("discriminators", opposed)] : [])
    let picture = Picture.curves(curves, title: title)
    var files = try previews.files(history)
    files["losses.csv"] = .text(table)
    files["losses.svg"] = .text(picture)
    return files
  }

  /// Runs a training to its end, keeping a checkpoint every `every` steps where the next try finds it.
  static func run(
    _ loop: TrainingLoop, total: Int, every: Int, previews: Previews, kept: KeptWeights? = nil,
    context: StageContext
  ) throws {
    let name = "training.safetensors"
    if let bytes = try context.checkpoint(name) {
      do {
        let steps = try TrainingLoop.steps(of: Data(bytes))
        guard try previews.restore(steps) else {
          throw TrainingError.checkpoint("a preview before it is missing")
        }
        guard try kept?.has(before: steps) ?? true else {
          throw TrainingError.checkpoint("weights that were kept before it are missing")
        }
        try loop.restore(Data(bytes))
        context.log("resumed at step \(loop.nextStep)")
      } catch {
        context.log("checkpoint not used: \(error)")
      }
    }
    func keep() throws {
      if context.ranks.rank > 0 { try loop.handOver() }
      try context.keepCheckpoint(loop.checkpoint(), as: name)
    }
    try previews.take(loop.nextStep)
    let pace = Pace(total: total, step: loop.nextStep, seconds: context.elapsed)
    try loop.run { point in
      try previews.take(point.step + 1)
      try kept?.take(point.step + 1, loop.weights)
      if point.step % 10 == 0 || point.validation != nil {
        let held = point.validation.map { ", held out \($0)" } ?? ""
        let speed = pace.note(step: point.step + 1, seconds: context.elapsed)
        let rate = String(format: "%.3g", point.rate)
        context.progress(
          Double(point.step + 1) / Double(total),
          "step \(point.step + 1): loss \(point.loss)\(held), rate \(rate); \(speed)")
      }
      let isKept = (point.step + 1) % every == 0 && point.step + 1 < total
      if isKept { try keep() }
      do { try context.checkCancelled() } catch {
        // Nothing that was done is lost, however rare checkpoints are.
        if !isKept { try keep() }
        context.log("stopped after step \(point.step + 1)")
        throw error
      }
    }
    context.metric("steps", Double(total))
    if let first = loop.history.first, let last = loop.history.last {
      context.metric("loss.first", Double(first.loss))
      context.metric("loss.last", Double(last.loss))
    }
    if let best = loop.bestValidation { context.metric("loss.best_held_out", Double(best)) }
  }
}
