import FlowTestSupport
import Foundation

/// A project that trains a vocoder on one second of sound, on a CUDA device.
enum SmallVocoder {
  /// A rising tone, 16 bits, one channel.
  static var wave: Data {
    func little(_ value: Int, _ bytes: Int) -> [UInt8] {
      (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let rate = 24000
    let samples = (0..<rate).flatMap { index in
      let time = Double(index) / Double(rate)
      return little(Int(9000 * sin(2 * .pi * (200 + 150 * time) * time)), 2)
    }
    return Data(
      Array("RIFF".utf8) + little(36 + samples.count, 4) + Array("WAVEfmt ".utf8) + little(16, 4)
        + little(1, 2) + little(1, 2) + little(rate, 4) + little(2 * rate, 4) + little(2, 2) + little(16, 2)
        + Array("data".utf8) + little(samples.count, 4) + samples)
  }

  /// Its pipeline, which takes the sounds in `songs`.
  static func pipeline(steps: Int) -> String {
    """
    flow: 1
    sources: { songs: { path: songs, license: CC0-1.0 } }
    stages:
      import: { uses: import-audio, in: { audio: songs } }
      train:
        uses: train-vocoder
        in: { audio: import.audio }
        with: { steps: \(steps), frames: 1, batch: 1, held_out: 0, checkpoint: 1, device: cuda, precision: float32 }
    outputs: { weights: train.weights, losses: train.losses }

    """
  }
}
