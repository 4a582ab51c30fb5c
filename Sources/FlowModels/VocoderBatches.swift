import FlowCore
import FlowNN
import FlowTensor

/// The batches of a vocoder's training: segments of songs, and noise for their latents. Each is a pure function of its number;
/// what is drawn doesn't depend on which of its rows are this rank's.
struct VocoderBatches: Sendable {
  private let settings: VocoderTraining
  private let songs: [[Float]]
  /// Indices of the songs that are learnt from, and of those that validations hear.
  private let (training, checked): ([Int], [Int])
  /// At how many samples of each song that is learnt from a segment can begin.
  private let starts: [Int]
  private let rows: Range<Int>
  private let seed: UInt64

  /// - Parameters:
  ///   - validation: indices of the songs that are held out; when none or all are, all are used for both.
  ///   - rows: this rank's of a batch.
  /// - Throws: `TrainingError.data` when there is no audio.
  init(
    _ settings: VocoderTraining, songs: [[Float]], validation: Set<Int>, rows: Range<Int>, seed: UInt64
  ) throws(TrainingError) {
    let used = songs.indices.filter { !songs[$0].isEmpty }
    let held = used.filter(validation.contains)
    training = held.count == used.count ? used : used.filter { !validation.contains($0) }
    guard !training.isEmpty else { throw .data("there is no audio to train the vocoder on") }
    checked = held.isEmpty ? training : held
    let count = settings.frames * settings.vocoder.hop
    starts = training.map { max(1, songs[$0].count - count + 1) }
    (self.settings, self.songs, self.rows, self.seed) = (settings, songs, rows, seed)
  }

  /// The batches that step `number` accumulates.
  /// - Throws: `TensorError`.
  func batches(ofStep number: Int) throws(TensorError) -> [[String: HostTensor]] {
    let total = starts.reduce(0, +)
    var result: [[String: HostTensor]] = []
    for part in 0..<settings.optimizer.accumulation {
      var random = Philox(seed: seed, label: "vocoder batch \(number) \(part)")
      let places = (0..<settings.batch).map { _ -> (song: Int, start: Int) in
        var start = Int(random.uniform() * Double(total))
        var index = 0
        while start >= starts[index] {
          start -= starts[index]
          index += 1
        }
        return (training[index], start)
      }
      let noise = (0..<settings.batch * noiseCount).map { _ in Float(random.normal()) * settings.latentNoise }
      let segments = rows.map { segment(songs[places[$0].song], from: places[$0].start) }
      let own = noise[rows.lowerBound * noiseCount..<rows.upperBound * noiseCount]
      try result.append(inputs(segments, noise: Array(own)))
    }
    return result
  }

  /// What validations hear: the same segments every time, spread over what is held out, without noise.
  /// - Throws: `TensorError`.
  func checks() throws(TensorError) -> [[String: HostTensor]] {
    let batches = 2
    let count = settings.frames * settings.vocoder.hop
    let turns = (batches * settings.batch + checked.count - 1) / checked.count
    let silent = [Float](repeating: 0, count: rows.count * noiseCount)
    var result: [[String: HostTensor]] = []
    for batch in 0..<batches {
      let segments = rows.map { row in
        let i = batch * settings.batch + row
        let song = songs[checked[i % checked.count]]
        let room = max(0, song.count - count)
        return segment(song, from: turns > 1 ? room * (i / checked.count) / (turns - 1) : room / 2)
      }
      try result.append(inputs(segments, noise: silent))
    }
    return result
  }

  /// Numbers of noise of a segment.
  private var noiseCount: Int { settings.vocoder.inChannels * settings.frames }

  /// The samples of `song` from `start` on, silence after its end.
  private func segment(_ song: [Float], from start: Int) -> [Float] {
    let count = settings.frames * settings.vocoder.hop
    let part = Array(song[min(start, song.count)..<min(start + count, song.count)])
    return part + [Float](repeating: 0, count: count - part.count)
  }

  private func inputs(_ segments: [[Float]], noise: [Float]) throws(TensorError) -> [String: HostTensor] {
    let count = settings.frames * settings.vocoder.hop
    return [
      "wave": try HostTensor(segments.flatMap { $0 }, [rows.count, 1, count]),
      "noise": try HostTensor(noise, [rows.count, settings.vocoder.inChannels, settings.frames]),
    ]
  }
}
