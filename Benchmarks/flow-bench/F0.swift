import FlowAudio

/// CPU seconds of pitch tracking.
func timeF0(_ path: String, runs: Int) throws {
  let audio = try AudioFile.read(path)
  let samples = audio.mono
  let tracker = PYIN(fmin: 65.40639132514966, fmax: 1046.5)
  var times: [Double] = []
  for _ in 0..<max(1, runs) {
    let begin = cpuSeconds()
    _ = try tracker.track(samples, sampleRate: audio.sampleRate)
    times.append(cpuSeconds() - begin)
  }
  print("{\"audio\": \(audio.duration), \"cpu\": \(times)}")
}
