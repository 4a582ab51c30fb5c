import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowScore

@Suite struct SingerTests {
  private func score() throws -> Score {
    try ABCReader.read("X:1\nT:t\nM:4/4\nL:1/4\nQ:1/4=60\nK:C\nC E G c|\nw: la see mo fu\n")
  }

  @Test func theSameSeedSingsTheSame() throws {
    let score = try score()
    let (one, other) = (
      Singer().sing(score, duration: 4.5, random: Philox(seed: 1, label: "x")),
      Singer().sing(score, duration: 4.5, random: Philox(seed: 1, label: "x"))
    )
    #expect(one.samples == other.samples && one.f0 == other.f0)
    #expect(one.samples.count == Int(4.5 * 44_100))
    #expect(Singer().sing(score, duration: 4.5, random: Philox(seed: 2, label: "x")).samples != one.samples)
  }

  /// The truth that travels along is the pitch of the notes, give or take vibrato and glides, and silence after them.
  @Test func thePitchIsThatOfTheNotes() throws {
    let sung = Singer().sing(try score(), duration: 4.5, random: Philox(seed: 1, label: "x"))
    for (index, pitch) in [60, 64, 67, 72].enumerated() {
      let expected = 440 * pow(2, (Double(pitch) - 69) / 12)
      let middle = sung.f0[Int((Double(index) + 0.3) / sung.step)..<Int((Double(index) + 0.8) / sung.step)]
        .filter { $0 > 0 }.sorted()
      #expect(middle.count > 20)
      let cents = 1200 * log2(middle[middle.count / 2] / expected)
      #expect(abs(cents) < 25, "note \(index): \(cents) cents")
    }
    #expect(sung.f0.suffix(40).allSatisfy { $0 == 0 })
    #expect(sung.samples.suffix(4000).allSatisfy { abs($0) < 1e-3 })
    #expect(sung.samples.allSatisfy { $0.isFinite && abs($0) <= 1 })
  }

  @Test func phonesCoverTheirSyllablesInOrder() throws {
    let sung = Singer().sing(try score(), duration: 4.5, random: Philox(seed: 1, label: "x"))
    #expect(sung.phones.allSatisfy { $0.start < $0.end })
    #expect(zip(sung.phones, sung.phones.dropFirst()).allSatisfy { $0.end <= $1.start + 1e-9 })
    #expect(sung.phones.contains { $0.symbol == "s" } && sung.phones.contains { $0.symbol == "f" })
    #expect(sung.words.map(\.text) == ["la", "see", "mo", "fu"])
    // A fricative has no pitch.
    let s = try #require(sung.phones.first { $0.symbol == "s" })
    #expect(sung.f0[Int((s.start + s.end) / 2 / sung.step)] == 0)
  }
}

@Suite struct RendererTests {
  private static let soundfont = Renderer.soundfonts.first { FileManager.default.isReadableFile(atPath: $0) }

  @Test func aNoteIsHeardWhileItLastsAtItsPitch() throws {
    guard let soundfont = RendererTests.soundfont else {
      print("skipped: no soundfont")
      return
    }
    var renderer = Renderer(soundfont: soundfont)
    renderer.reverb = 0
    let note = Score.Note(start: 0.5, duration: 1, pitch: 69, velocity: 100, channel: 0, syllable: nil)
    let audio = try renderer.render([note], programs: [0: 73], tail: 1)
    #expect(try renderer.render([note], programs: [0: 73], tail: 1) == audio)
    func power(_ from: Double, _ to: Double) -> Float {
      audio[Int(from * 44_100)..<Int(to * 44_100)].reduce(0) { $0 + $1 * $1 }
    }
    #expect(power(0, 0.49) < 1e-6 * power(0.6, 1.4))
    #expect(power(2.2, 2.5) < 0.05 * power(0.6, 0.9))
    // 440 Hz is a period of 100.2 samples.
    let tone = Array(audio[Int(0.7 * 44_100)..<Int(1.3 * 44_100)])
    let similarity = (40...140).map { lag in zip(tone, tone.dropFirst(lag)).reduce(0) { $0 + $1.0 * $1.1 } }
    let best = similarity.indices.max { similarity[$0] < similarity[$1] }.map { $0 + 40 }
    #expect(best == 100)
  }
}
