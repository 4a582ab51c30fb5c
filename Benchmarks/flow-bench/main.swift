// Times parts of flow for the scripts under Benchmarks/, which run the peer beside it:
//   flow-bench f0 FILE [RUNS]    one JSON line: seconds of audio, CPU seconds of each run
import FlowAudio
import Foundation

/// CPU seconds of this process, all threads.
func cpuSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

func fail(_ message: String) -> Never {
  FileHandle.standardError.write(Data((message + "\n").utf8))
  exit(2)
}

let arguments = CommandLine.arguments
guard arguments.count >= 3, arguments[1] == "f0" else { fail("usage: flow-bench f0 FILE [RUNS]") }
let runs = arguments.count > 3 ? Int(arguments[3]) ?? 5 : 5
do {
  let audio = try AudioFile.read(arguments[2])
  let samples = audio.mono
  let tracker = PYIN(fmin: 65.40639132514966, fmax: 1046.5)
  var times: [Double] = []
  for _ in 0..<max(1, runs) {
    let begin = cpuSeconds()
    _ = try tracker.track(samples, sampleRate: audio.sampleRate)
    times.append(cpuSeconds() - begin)
  }
  print("{\"audio\": \(audio.duration), \"cpu\": \(times)}")
} catch {
  fail("\(error)")
}
