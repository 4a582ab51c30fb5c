import FlowAudio
import FlowCore
import FlowNN
import FlowStageKit
import Foundation

/// What a training gives to the ear on its way: sounds made from the weights of step 0, every so many steps, and the last,
/// beside what they should be. They are kept as checkpoints are, so that a training that was killed has them all.
final class Previews {
  /// A sound and what it is.
  struct Sound {
    let name: String
    let audio: AudioBuffer
  }

  private let context: StageContext
  private let every: Int
  private let total: Int
  private let references: [Sound]
  private let make: () throws -> [Sound]
  private var taken: [Int: [Kept]] = [:]

  /// A sound as it is kept.
  private struct Kept: Codable {
    let name: String
    let rate: Int
    let frames: Int
    let wav: Data
    let picture: Data
  }

  /// - Parameters:
  ///   - every: steps between previews; 0 makes none.
  ///   - total: steps of the training.
  ///   - references: what the sounds should be, by the same names.
  ///   - make: the sounds of the weights as they are.
  init(
    _ context: StageContext, every: Int, total: Int, references: [Sound], make: @escaping () throws -> [Sound]
  ) {
    self.context = context
    self.every = every
    self.total = total
    self.references = references
    self.make = make
  }

  /// The six seconds in the middle of a song.
  static func excerpt(_ song: [Float], rate: Int) -> AudioBuffer {
    let count = min(song.count, 6 * rate)
    let start = (song.count - count) / 2
    return AudioBuffer(Array(song[start..<start + count]), sampleRate: rate)
  }

  private func isDue(_ step: Int) -> Bool { every > 0 && (step % every == 0 || step == total) }
  private func file(_ step: Int) -> String { "preview-\(step).json" }

  /// Takes up the previews of a training that goes on after `step` steps; `false` when one is missing.
  func restore(_ step: Int) throws -> Bool {
    for due in 0...step where isDue(due) {
      guard let bytes = try context.checkpoint(file(due)),
        let kept = try? JSONDecoder().decode([Kept].self, from: Data(bytes))
      else { return false }
      taken[due] = kept
    }
    return true
  }

  /// After `step` steps: makes the preview that is due and hasn't been made; of ranks, the first does.
  func take(_ step: Int) throws {
    guard isDue(step), taken[step] == nil, context.ranks.rank == 0 else { return }
    let kept = try make().map(keep)
    try context.keepCheckpoint(Array(JSONEncoder().encode(kept)), as: file(step))
    taken[step] = kept
  }

  private func keep(_ sound: Sound) throws -> Kept {
    let path = context.scratch("preview.wav")
    do { try AudioFile.write(sound.audio, to: path, format: .wavPCM16) } catch {
      throw StageFailure("\(error)")
    }
    return Kept(
      name: sound.name, rate: sound.audio.sampleRate, frames: sound.audio.count,
      wav: try Data(contentsOf: URL(fileURLWithPath: path)), picture: Data(Picture.spectrogram(sound.audio)))
  }

  /// The files of a training's report: an event file of losses and previews for TensorBoard, and sounds and pictures.
  func files(_ history: [TrainingPoint]) throws -> [String: FileContent] {
    var events = EventFile()
    for point in history {
      events.scalar("loss/training", point.loss, step: point.step)
      if let held = point.validation { events.scalar("loss/held out", held, step: point.step + 1) }
      for (name, value) in (point.terms ?? [:]).sorted(by: { $0.key < $1.key }) {
        events.scalar("loss/\(name)", value, step: point.step)
      }
      events.scalar("gradient norm", point.gradientNorm, step: point.step)
      events.scalar("learning rate", Float(point.rate), step: point.step)
    }
    var files: [String: FileContent] = [:]
    func add(_ kept: Kept, _ tag: String, _ step: Int, _ file: String) {
      events.audio(
        tag, wav: Array(kept.wav), rate: kept.rate, channels: 1, frames: kept.frames, step: step)
      events.image(tag, png: Array(kept.picture), step: step)
      files[file + ".wav"] = .bytes(Array(kept.wav))
      files[file + ".png"] = .bytes(Array(kept.picture))
    }
    if every > 0 {
      for sound in references {
        add(try keep(sound), "\(sound.name)/reference", 0, "\(sound.name)-reference")
      }
    }
    let width = String(total).count
    for (step, sounds) in taken.sorted(by: { $0.key < $1.key }) {
      let number = String(repeating: "0", count: width - String(step).count) + String(step)
      for kept in sounds { add(kept, "\(kept.name)/preview", step, "\(kept.name)-step-\(number)") }
    }
    files[EventFile.name] = .bytes(events.bytes)
    return files
  }
}
