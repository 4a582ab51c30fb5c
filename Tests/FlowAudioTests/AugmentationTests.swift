import FlowAudio
import FlowCore
import Foundation
import Testing

@Suite struct AugmentationTests {
  /// Frequency by the phase of a long windowed projection, and the ratio of the sine to all else, dB.
  private func measure(_ samples: [Float], near frequency: Double, rate: Double) -> (
    cents: Double, sinad: Double
  ) {
    let range = samples.count / 4..<samples.count * 3 / 4
    func project(_ f: Double, _ range: Range<Int>) -> (Double, Double) {
      var (c, s) = (0.0, 0.0)
      for i in range {
        let w = 0.5 - 0.5 * cos(2 * .pi * Double(i - range.lowerBound) / Double(range.count))
        c += w * Double(samples[i]) * cos(2 * .pi * f * Double(i) / rate)
        s += w * Double(samples[i]) * sin(2 * .pi * f * Double(i) / rate)
      }
      return (c, s)
    }
    var f = frequency
    for _ in 0..<4 {
      let middle = (range.lowerBound + range.upperBound) / 2
      let (c1, s1) = project(f, range.lowerBound..<middle)
      let (c2, s2) = project(f, middle..<range.upperBound)
      var turn = atan2(-s2, c2) - atan2(-s1, c1)
      turn -= 2 * .pi * (turn / (2 * .pi)).rounded()
      f += turn / (2 * .pi) * rate / Double(range.count / 2)
    }
    // Least squares of the sine at f.
    var (cc, ss, cs, xc, xs, xx) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for i in range {
      let (c, s, x) = (
        cos(2 * .pi * f * Double(i) / rate), sin(2 * .pi * f * Double(i) / rate), Double(samples[i])
      )
      cc += c * c
      ss += s * s
      cs += c * s
      xc += x * c
      xs += x * s
      xx += x * x
    }
    let determinant = cc * ss - cs * cs
    let (a, b) = ((xc * ss - xs * cs) / determinant, (xs * cc - xc * cs) / determinant)
    let fitted = a * xc + b * xs
    return (1200 * log2(f / frequency), 10 * log10(fitted / max(xx - fitted, 1e-20)))
  }

  @Test(arguments: [-7.0, -1, 3, 12]) func pitchShiftIsInTuneAndClean(_ semitones: Double) throws {
    let rate = 44_100.0
    let sine = (0..<Int(rate * 3)).map { Float(0.5 * sin(2 * .pi * 440 * Double($0) / rate)) }
    let out = try PhaseVocoder().shifted(sine, semitones: semitones)
    #expect(out.count == sine.count)
    let (cents, sinad) = measure(out, near: 440 * exp2(semitones / 12), rate: rate)
    print("pitch shift \(semitones): \(cents) cents, SINAD \(sinad) dB")
    #expect(abs(cents) < 1)
    #expect(sinad >= 45)
  }

  @Test(arguments: [0.8, 1.25]) func stretchKeepsPitchAndLength(_ factor: Double) {
    let rate = 44_100.0
    let sine = (0..<Int(rate * 3) + 7).map { Float(0.5 * sin(2 * .pi * 440 * Double($0) / rate)) }
    let out = PhaseVocoder().stretched(sine, rate: factor)
    #expect(out.count == Int((Double(sine.count) / factor).rounded()))
    let (cents, sinad) = measure(out, near: 440, rate: rate)
    print("stretch \(factor): \(cents) cents, SINAD \(sinad) dB")
    #expect(abs(cents) < 0.2)
    #expect(sinad >= 45)
  }

  @Test func clicksStayWhereTheyBelong() {
    let rate = 44_100.0
    for factor in [0.8, 1.25] {
      var samples = [Float](repeating: 0, count: Int(rate * 4))
      let places = [1.0, 2.0, 3.0]
      for place in places { for i in 0..<20 { samples[Int(place * rate) + i] = i % 2 == 0 ? 0.8 : -0.8 } }
      let out = PhaseVocoder().stretched(samples, rate: factor)
      for place in places {
        let want = Int(place * rate / factor)
        let window = want - 8000..<want + 8000
        let found = window.max { abs(out[$0]) < abs(out[$1]) } ?? 0
        #expect(
          abs(Double(found - want)) / rate < 0.010,
          "click at \(place) s, rate \(factor): off by \(Double(found - want) / rate) s")
      }
    }
  }

  @Test func mixingHitsTheRatio() {
    var random = Philox(seed: 4)
    let signal = (0..<10_000).map { _ in Float(random.normal()) * 0.1 }
    let noise = (0..<3000).map { _ in Float(random.normal()) }
    for decibels in [-5.0, 0, 12] {
      let mixed = Mixing.atSNR(signal, noise: noise, decibels: decibels)
      let added = zip(mixed, signal).map { Double($0 - $1) }
      let ratio =
        10 * log10(signal.reduce(0) { $0 + Double($1) * Double($1) } / added.reduce(0) { $0 + $1 * $1 })
      #expect(abs(ratio - decibels) < 1e-3)
    }
  }
}

@Suite struct AudioFileTests {
  private func folder() throws -> String {
    let path = NSTemporaryDirectory() + "flow-audio-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  @Test func floatsSurviveAndBytesRepeat() throws {
    let root = try folder()
    defer { try? FileManager.default.removeItem(atPath: root) }
    var random = Philox(seed: 2)
    let audio = AudioBuffer(
      channels: (0..<2).map { _ in (0..<999).map { _ in Float(random.uniform(-1...1)) } }, sampleRate: 22_050)
    try AudioFile.write(audio, to: root + "/a.wav")
    #expect(try AudioFile.read(root + "/a.wav") == audio)
    try AudioFile.write(audio, to: root + "/b.wav")
    #expect(
      FileManager.default.contents(atPath: root + "/a.wav")
        == FileManager.default.contents(atPath: root + "/b.wav"))
    try AudioFile.write(audio, to: root + "/c.wav", format: .wavPCM16)
    let coarse = try AudioFile.read(root + "/c.wav")
    for (a, b) in zip(coarse.channels[0], audio.channels[0]) { #expect(abs(a - b) < 1e-4) }
  }

  @Test func badFilesHaveReasons() throws {
    let root = try folder()
    defer { try? FileManager.default.removeItem(atPath: root) }
    try Data().write(to: URL(fileURLWithPath: root + "/empty.wav"))
    try Data("not audio at all".utf8).write(to: URL(fileURLWithPath: root + "/text.wav"))
    try AudioFile.write(AudioBuffer([0, .nan, 1], sampleRate: 8000), to: root + "/nan.wav")
    try AudioFile.write(AudioBuffer([], sampleRate: 8000), to: root + "/none.wav")
    #expect(throws: AudioFileError.notFinite(index: 1)) { try AudioFile.read(root + "/nan.wav") }
    #expect(throws: AudioFileError.empty) { try AudioFile.read(root + "/none.wav") }
    for name in ["empty.wav", "text.wav", "missing.wav"] {
      #expect(throws: AudioFileError.self) { try AudioFile.read(root + "/" + name) }
    }
  }

  @Test func pitchIsTrackedOnAShortOrSilentSignalWithoutTrouble() throws {
    let tracker = PYIN(fmin: 65, fmax: 1000)
    #expect(try tracker.track([], sampleRate: 44_100).f0.count == 1)
    #expect(
      try !tracker.track([Float](repeating: 0, count: 30_000), sampleRate: 44_100).voiced.contains(true))
    #expect(throws: PYIN.BadRange.self) { try tracker.track([0], sampleRate: 100) }
  }
}
