// Times parts of flow for the scripts under Benchmarks/, which run the peer beside it:
//   flow-bench f0 FILE [RUNS]        one JSON line: seconds of audio, CPU seconds of each run
//   flow-bench codec FOLDER FILE...  a line a file: name, bytes, ratio, MB/s into and out of a store in FOLDER, digests included
//   flow-bench hash FILE             MB/s of digesting it, by the clock, the best of five
//   flow-bench safetensors FILE      the number of its tensors, all read; or why it is refused, and exit code 2
//   flow-bench tensor CASE THREADS RUNS   one JSON line: seconds, CPU seconds, peak memory, FLOP of products, a value to check
//   flow-bench profile CASE THREADS       where the time of such a case goes
//   flow-bench real-size make FOLDER      files of the published sizes with made-up values (5.1 GB)
//   flow-bench real-size step FOLDER [THREADS] [recompute]   a step of a low-rank training on them, with times and memory
//   flow-bench pcm16 FILE WAV        writes FILE's sound as 16-bit samples
import FlowAudio
import FlowNN
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
guard arguments.count >= 3 else {
  fail(
    "usage: flow-bench f0 FILE [RUNS] | codec FOLDER FILE... | hash FILE | tensor CASE THREADS RUNS"
      + " | profile CASE [THREADS] | real-size make|step FOLDER | pcm16 FILE WAV")
}
do {
  switch arguments[1] {
  case "f0": try timeF0(arguments[2], runs: arguments.count > 3 ? Int(arguments[3]) ?? 5 : 5)
  case "codec": try timeCodec(arguments[2], Array(arguments[3...]))
  case "hash": try timeHash(arguments[2])
  case "safetensors":
    let file = try SafetensorsFile(path: arguments[2])
    for name in file.names { _ = try file.tensor(name) }
    print("\(file.names.count) tensors")
  case "tensor":
    guard arguments.count == 5, let threads = Int(arguments[3]), let runs = Int(arguments[4]) else {
      fail("usage: flow-bench tensor CASE THREADS RUNS")
    }
    try timeTensor(arguments[2], threads: threads, runs: runs)
  case "profile": try profileTensor(arguments[2], threads: arguments.count > 3 ? Int(arguments[3]) ?? 1 : 1)
  case "real-size":
    guard arguments.count >= 4, ["make", "step"].contains(arguments[2]) else {
      fail("usage: flow-bench real-size make FOLDER | real-size step FOLDER [THREADS]")
    }
    if arguments[2] == "make" {
      try makeRealSize(arguments[3])
    } else {
      try timeRealSize(
        arguments[3], threads: arguments.count > 4 ? Int(arguments[4]) ?? 2 : 2,
        recomputes: arguments.last == "recompute")
    }
  case "pcm16":
    guard arguments.count == 4 else { fail("usage: flow-bench pcm16 FILE WAV") }
    try AudioFile.write(AudioFile.read(arguments[2]), to: arguments[3], format: .wavPCM16)
  default: fail("flow-bench doesn't know '\(arguments[1])'")
  }
} catch {
  fail("\(error)")
}
