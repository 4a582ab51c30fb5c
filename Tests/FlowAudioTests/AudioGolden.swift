import FlowAudio
import FlowCore
import FlowTestSupport
import Foundation
import Testing

/// The golden clip NAME: a synthesised one in the golden folder, a real one in the corpus.
func clip(_ name: String) throws -> AudioBuffer? {
  let url =
    name.hasPrefix("real_") ? Golden.corpus("audio/\(name).flac") : Golden.file("audio/audio/\(name).flac")
  return try url.map { try AudioFile.read($0.path) }
}

/// JSON as Python writes it, with infinities and NaN: those become null.
func pythonJSON(_ url: URL) throws -> JSON {
  var text = try String(contentsOf: url, encoding: .utf8)
  for word in ["-Infinity", "Infinity", "NaN"] { text = text.replacingOccurrences(of: word, with: "null") }
  return try JSON(parsing: text.utf8)
}

@Suite struct PitchGolden {
  @Test func pyinFollowsLibrosa() throws {
    for file in Golden.files(in: "audio/f0", suffix: ".npz") {
      let name = String(file.dropLast(4))
      let arrays = try Npz(Golden.root.appendingPathComponent("audio/f0/\(file)"))
      guard let audio = try clip(name), let f0 = arrays["pyin_native_f0"],
        let voiced = arrays["pyin_native_voiced"],
        let probability = arrays["pyin_native_prob"]
      else { continue }
      let tracker = PYIN(fmin: 65.40639132514966, fmax: 2093.004522404789)
      let track = try tracker.track(audio.mono, sampleRate: audio.sampleRate)
      #expect(track.f0.count == f0.values.count, "\(name): frames")
      var (same, near, both) = (0, 0, 0)
      var worst = 0.0
      for i in 0..<min(track.f0.count, f0.values.count) {
        if track.voiced[i] == (voiced.values[i] != 0) { same += 1 }
        worst = max(worst, abs(track.probability[i] - probability.values[i]))
        if track.voiced[i], voiced.values[i] != 0 {
          both += 1
          if abs(1200 * log2(track.f0[i] / f0.values[i])) <= 10.01 { near += 1 }
        }
      }
      #expect(
        Double(same) >= 0.99 * Double(f0.values.count), "\(name): voicing \(same) of \(f0.values.count)")
      #expect(Double(near) >= 0.99 * Double(both), "\(name): pitch \(near) of \(both)")
      #expect(worst < 1e-3, "\(name): probability off by \(worst)")
      try expectNotWorseThanLibrosa(name, track, f0.values, voiced.values)
    }
  }

  private func expectNotWorseThanLibrosa(
    _ name: String, _ track: PYIN.Track, _ f0: [Double], _ voiced: [Double]
  ) throws {
    let url = Golden.root.appendingPathComponent("audio/truth/\(name).f0.npz")
    guard FileManager.default.fileExists(atPath: url.path), let times = try Npz(url)["time"]?.values,
      let truth = try Npz(url)["f0"]?.values, times.count > 1
    else { return }
    let step = times[1] - times[0]
    let onGrid = (0..<track.f0.count).map { i -> Double in
      let j = Int((Double(i) * track.step / step).rounded())
      return j < truth.count && truth[j].isFinite ? truth[j] : 0
    }
    let ours = Metrics.pitch(estimate: zip(track.f0, track.voiced).map { $1 ? $0 : 0 }, truth: onGrid)
    let theirs = Metrics.pitch(
      estimate: zip(f0, voiced).map { $1 != 0 && $0.isFinite ? $0 : 0 }, truth: onGrid)
    #expect(
      ours.rawAccuracy >= theirs.rawAccuracy - 0.002,
      "\(name): \(ours.rawAccuracy) against \(theirs.rawAccuracy)")
  }
}

@Suite struct LoudnessGolden {
  @Test func loudnessFollowsEBUR128() throws {
    guard let url = Golden.file("audio/loudness/loudness.json"),
      case .object(let clips) = try pythonJSON(url)
    else { return }
    for (name, expected) in clips {
      let path = Golden.root.appendingPathComponent("audio/audio/\(name).flac").path
      guard FileManager.default.fileExists(atPath: path) || name.hasPrefix("real_"),
        let audio = try clip(name),
        let peer = expected["libebur128"]
      else { continue }
      let loudness = Loudness(audio)
      if let want = peer["integrated"]?.number, want > -70 {
        #expect(abs(loudness.integrated - want) <= 0.05, "\(name)")
      }
      if let want = peer["max_momentary"]?.number, want > -70 {
        #expect(abs(loudness.maxMomentary - want) <= 0.2, "\(name)")
      }
      if let want = peer["lra"]?.number, want.isFinite {
        #expect(abs(loudness.range - want) <= 0.2, "\(name): \(loudness.range) for \(want)")
      }
      if let want = peer["true_peak_dbtp"]?.number, want > -60 {
        #expect(
          loudness.truePeak > want - 0.4 && loudness.truePeak < want + 1,
          "\(name): \(loudness.truePeak) for \(want)")
      }
    }
  }

  @Test func theStandardsCasesHold() throws {
    guard let url = Golden.file("audio/loudness/ebu_cases.json"),
      case .object(let cases) = try JSON(parsing: Data(contentsOf: url))
    else { return }
    for (name, test) in cases {
      guard case .array(let segments)? = test["segments_dbfs_seconds"], let want = test["expected_I"]?.number
      else { continue }
      var samples: [Float] = []
      for case .array(let segment) in segments {
        let amplitude = pow(10, (segment[0].number ?? -200) / 20)
        let count = Int(48_000 * (segment[1].number ?? 0))
        samples += (0..<count).map { Float(amplitude * sin(2 * .pi * 1000 * Double($0) / 48_000)) }
      }
      let loudness = Loudness(AudioBuffer(channels: [samples, samples], sampleRate: 48_000))
      #expect(abs(loudness.integrated - want) <= 0.1, "\(name): \(loudness.integrated)")
    }
  }

  @Test func trimmingIsExact() throws {
    guard let url = Golden.file("audio/trim/trim_split.json"),
      case .object(let clips) = try JSON(parsing: Data(contentsOf: url))
    else { return }
    for (name, levels) in clips {
      let path = Golden.root.appendingPathComponent("audio/audio/\(name).flac").path
      guard FileManager.default.fileExists(atPath: path), let audio = try clip(name),
        case .object(let byLevel) = levels
      else { continue }
      for (level, expected) in byLevel {
        guard case .array(let range)? = expected["trim"], let decibels = Double(level) else { continue }
        let got = audio.trimmed(decibels: decibels)
        #expect(
          [got.lowerBound, got.upperBound] == range.map { Int($0.number ?? -1) }, "\(name) at \(level) dB")
      }
    }
  }
}

@Suite struct FeatureGolden {
  @Test func melSpectraAgree() throws {
    for file in Golden.files(in: "audio/features", suffix: ".npz")
    where !file.contains("chroma") && file != "filterbanks.npz" {
      let name = String(file.dropLast(4))
      let arrays = try Npz(Golden.root.appendingPathComponent("audio/features/\(file)"))
      guard let want = arrays["mel_slaney_128_2048_512_power2"], let audio = try clip(name) else { continue }
      let filters = Mel.filters(sampleRate: audio.sampleRate, fft: 2048, bands: 128)
      // The peers' features are of the first five seconds.
      let samples = Array(audio.mono.prefix(5 * audio.sampleRate))
      let mel = Mel.spectrum(STFT(size: 2048, hop: 512).forward(samples), filters: filters, power: 2)
      #expect(want.shape == [128, mel.count], "\(name)")
      guard want.shape == [128, mel.count] else { continue }
      var (error, norm) = (0.0, 0.0)
      for band in 0..<128 {
        for f in mel.indices {
          let w = want.values[band * mel.count + f]
          error += (mel[f][band] - w) * (mel[f][band] - w)
          norm += w * w
        }
      }
      #expect((error / norm).squareRoot() < 1e-4, "\(name): \((error / norm).squareRoot())")
    }
  }

  @Test func resamplingIsCleanAndExactInLength() throws {
    let rate = 44_100
    for (frequency, band) in [(1000.0, true), (7000, true), (8500, false), (12_000, false), (20_000, false)] {
      let samples = (0..<rate).map { Float(0.5 * sin(2 * .pi * frequency * Double($0) / Double(rate))) }
      let out = try AudioBuffer(samples, sampleRate: rate).resampled(to: 16_000)
      #expect(out.count == 16_000)
      let middle = out.channels[0][2000..<14_000]
      let level =
        10 * log10(middle.reduce(0) { $0 + Double($1) * Double($1) } / Double(middle.count) / 0.125 + 1e-30)
      if band {
        #expect(abs(level) < 0.05, "\(frequency) Hz: \(level) dB")
      } else {
        #expect(level <= -120, "\(frequency) Hz: \(level) dB")
      }
    }
    guard let audio = try clip("sweep_full"), let url = Golden.file("audio/resample/sweep_full.npz"),
      let want = try Npz(url)["src_sinc_best_16000"]
    else { return }
    let out = try audio.resampled(to: 16_000)
    #expect(out.count == (audio.count * 16_000 + audio.sampleRate - 1) / audio.sampleRate)
    var (error, norm) = (0.0, 0.0)
    for (a, b) in zip(out.channels[0], want.values) {
      error += (Double(a) - b) * (Double(a) - b)
      norm += b * b
    }
    #expect((error / norm).squareRoot() < 1e-3, "\((error / norm).squareRoot())")
  }

  @Test func frechetDistancesAgree() throws {
    guard let url = Golden.file("audio/metrics/fad_embeddings_f64.npz"),
      let list = Golden.file("audio/metrics/fad_expected.json"),
      case .object(let cases) = try JSON(parsing: Data(contentsOf: list))
    else { return }
    let arrays = try Npz(url)
    func rows(_ array: Npz.Array) -> [[Double]] {
      (0..<array.shape[0]).map { Array(array.values[$0 * array.shape[1]..<($0 + 1) * array.shape[1]]) }
    }
    for (name, expected) in cases {
      guard let a = arrays[name + "_a"], let b = arrays[name + "_b"],
        let want = expected["fad"]?["eigh_sym"]?.number
      else { continue }
      let got = try Frechet.distance(rows(a), rows(b))
      let full = min(a.shape[0], b.shape[0]) > a.shape[1]
      #expect(abs(got / want - 1) < (full ? 1e-6 : 1e-4), "\(name): \(got) for \(want)")
      let own = try Frechet.distance(rows(a), rows(a))
      #expect(own >= 0 && own < 1e-4 * want)
    }
  }

  @Test func pitchErrorsAgree() throws {
    guard let url = Golden.file("audio/metrics/f0_pairs.npz"),
      let list = Golden.file("audio/metrics/f0_expected.json"),
      case .object(let cases) = try JSON(parsing: Data(contentsOf: list))
    else { return }
    let arrays = try Npz(url)
    for (name, expected) in cases {
      let pair = arrays.arrays.filter { $0.key.hasPrefix(name + "_") }
      guard let truth = pair.first(where: { $0.key.contains("ref") || $0.key.contains("truth") })?.value,
        let estimate = pair.first(where: { $0.key.contains("est") })?.value
      else {
        Issue.record("no pair \(name) among \(arrays.arrays.keys.sorted())")
        continue
      }
      let got = Metrics.pitch(estimate: estimate.values, truth: truth.values)
      #expect(abs(got.rmseHertz - (expected["f0_rmse_hz"]?.number ?? -1)) < 1e-9, "\(name)")
      #expect(abs(got.rmseCents - (expected["f0_rmse_cents"]?.number ?? -1)) < 1e-9, "\(name)")
      #expect(abs(got.grossError - (expected["gpe20pct"]?.number ?? -1)) < 1e-9, "\(name)")
      #expect(abs(got.voicingError - (expected["vde"]?.number ?? -1)) < 1e-9, "\(name)")
      #expect(abs(got.frameError - (expected["ffe"]?.number ?? -1)) < 1e-9, "\(name)")
    }
  }

  @Test func theVoiceIsLiftedOutOfTheMixture() throws {
    guard let mixture = try clip("stem_mix"), let truth = try clip("stem_vocals") else { return }
    let (vocals, accompaniment) = VocalSeparator().separate(mixture)
    let gain = Metrics.nsdr(vocals, truth: truth.mono, mixture: mixture.mono)
    print("separation on stem_mix: nSDR \(gain) dB over the mixture")
    #expect(gain >= 3)
    // A voice 12 dB louder still: little is to be gained, and nothing must be lost.
    let loud = zip(mixture.mono, truth.mono).map { $1 + 0.25 * ($0 - $1) }
    let kept = VocalSeparator().separate(AudioBuffer(loud, sampleRate: mixture.sampleRate)).vocals
    #expect(Metrics.nsdr(kept, truth: truth.mono, mixture: loud) >= 0)
    for i in stride(from: 0, to: vocals.count, by: 997) {
      #expect(abs(vocals[i] + accompaniment[i] - mixture.mono[i]) < 1e-5)
    }
  }
}
