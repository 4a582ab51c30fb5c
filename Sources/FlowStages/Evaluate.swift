import FlowAudio
import FlowCore
import FlowStageKit
import Foundation

/// Scores what came out: the Fréchet distance of the samples to the songs, how far the spectrum of each is from that of the
/// song of its name, and the errors of the pitch tracks where the truth is known.
struct Evaluate: Stage {
  static let name = "evaluate"
  struct Parameters: Decodable, Sendable {}
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    var figures: [(name: String, value: Double)] = []
    func rows(_ port: String) throws -> [[Double]] {
      try context.items(port).flatMap { item -> [[Double]] in
        do { return try DSPEmbedding.rows(item.audio()) } catch let error as AudioFileError {
          throw StageFailure("\(error)")
        }
      }
    }
    let (samples, reference) = (try rows("samples"), try rows("reference"))
    if samples.count >= 2, reference.count >= 2 {
      let scales = Evaluate.deviations(reference)
      func whitened(_ rows: [[Double]]) -> [[Double]] { rows.map { zip($0, scales).map { $0 / $1 } } }
      do {
        let distance = try Frechet.distance(whitened(samples), whitened(reference))
        figures.append(("FAD[\(DSPEmbedding.name)]", distance))
      } catch { context.log("no Fréchet distance: \(error)") }
    } else {
      context.log(
        "no Fréchet distance: \(samples.count) and \(reference.count) patches of 0.96 s, at least 2 are needed"
      )
    }
    if let distance = try melDistance(context) { figures.append(("mel_distance_db", distance)) }
    let truths = Dictionary(context.items("truth").map { ($0.item.id, $0) }, uniquingKeysWith: { a, _ in a })
    var pitches: [Metrics.Pitch] = []
    for item in context.items("f0") {
      guard let truth = truths[item.item.id] else { continue }
      let (got, want) = (try item.json(Files.f0, PitchFile.self), try truth.json(Files.f0, PitchFile.self))
      let onGrid = got.f0.indices.map { i -> Double in
        let j = Int((Double(i) * got.step / want.step).rounded())
        return j < want.f0.count ? want.f0[j] : 0
      }
      pitches.append(Metrics.pitch(estimate: got.f0, truth: onGrid))
    }
    if !pitches.isEmpty {
      func mean(_ value: (Metrics.Pitch) -> Double) -> Double {
        pitches.map(value).reduce(0, +) / Double(pitches.count)
      }
      figures.append(("f0_rmse_hz", mean(\.rmseHertz)))
      figures.append(("f0_rmse_cents", mean(\.rmseCents)))
      figures.append(("f0_raw_accuracy", mean(\.rawAccuracy)))
      figures.append(("f0_chroma_accuracy", mean(\.chromaAccuracy)))
      figures.append(("f0_voicing_error", mean(\.voicingError)))
    }
    var table = "metric,value\n"
    for figure in figures {
      context.metric(figure.name, figure.value)
      table += "\(figure.name),\(String(format: "%.6g", figure.value))\n"
    }
    let document = JSON.object([
      "schema": "flow.metrics/1",
      "patches": ["samples": .int(samples.count), "reference": .int(reference.count)],
      "note": .string(
        "FAD[\(DSPEmbedding.name)] is measured in an embedding without weights; compare it only with itself"),
      "metrics": .object(Dictionary(uniqueKeysWithValues: figures.map { ($0.name, .double($0.value)) })),
    ])
    try context.emit(
      "metrics", id: "metrics", files: ["metrics.json": .text(document.pretty), "metrics.csv": .text(table)])
  }

  /// The mean distance of samples to the songs of their names; `nil` when there are none.
  private func melDistance(_ context: StageContext) throws -> Double? {
    let songs = Dictionary(
      context.items("reference").map { ($0.item.id, $0) }, uniquingKeysWith: { a, _ in a })
    var distances: [Double] = []
    for item in context.items("samples") {
      guard let song = songs[item.item.id] else { continue }
      do {
        let (sample, truth) = (try item.audio(), try song.audio())
        let wave = try AudioBuffer(sample.mono, sampleRate: sample.sampleRate).resampled(to: truth.sampleRate)
        distances.append(
          Metrics.melDistance(wave.mono, truth: truth.mono, sampleRate: truth.sampleRate))
      } catch let error as AudioFileError { throw StageFailure("\(error)") }
    }
    return distances.isEmpty ? nil : distances.reduce(0, +) / Double(distances.count)
  }

  private static func deviations(_ rows: [[Double]]) -> [Double] {
    (0..<rows[0].count).map { i in
      let mean = rows.reduce(0) { $0 + $1[i] } / Double(rows.count)
      return max(
        1e-3, (rows.reduce(0) { $0 + ($1[i] - mean) * ($1[i] - mean) } / Double(rows.count)).squareRoot())
    }
  }
}
