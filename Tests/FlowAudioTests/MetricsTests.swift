import FlowCore
import Foundation
import Testing

@testable import FlowAudio

@Suite struct MetricsTests {
  private let rate = 16_000

  private func tone(_ hertz: Double, _ level: Double = 0.3) -> [Float] {
    (0..<rate).map { Float(level * sin(2 * .pi * hertz * Double($0) / Double(rate))) }
  }

  @Test func theMelDistanceIsThatOfSpectra() {
    let song = zip(tone(300), tone(2000, 0.1)).map(+)
    #expect(Metrics.melDistance(song, truth: song, sampleRate: rate) == 0)
    // A sampler's level is its own.
    #expect(Metrics.melDistance(song.map { $0 * 0.1 }, truth: song, sampleRate: rate) < 1e-4)
    // A part 20 dB weaker is 20 dB off where it is, and nowhere else.
    let weaker = zip(tone(300), tone(2000, 0.01)).map(+)
    let (near, far) = (
      Metrics.melDistance(weaker, truth: song, sampleRate: rate),
      Metrics.melDistance(tone(700), truth: song, sampleRate: rate)
    )
    #expect(near > 0.5 && near < 10 && far > near, "\(near), \(far)")
    // One octave up: another spectrum, the same chroma.
    var random = Philox(seed: 1, label: "noise")
    let noise = (0..<rate).map { _ in Float(0.1 * random.normal()) }
    #expect(Metrics.melDistance(noise, truth: song, sampleRate: rate) > far)
    #expect(Metrics.melDistance([], truth: song, sampleRate: rate) == 0)
  }

  @Test func chromaForgivesOctavesAlone() {
    let truth = [0, 220, 220, 330, 440, 440]
    let got = [0, 440, 222, 330, 0, 470.0]
    let pitch = Metrics.pitch(estimate: got, truth: truth.map(Double.init))
    #expect(abs(pitch.rawAccuracy - 2.0 / 5) < 1e-12)
    #expect(abs(pitch.chromaAccuracy - 3.0 / 5) < 1e-12)
  }
}
