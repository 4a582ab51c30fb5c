import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

/// Runs the cases of `Benchmarks/cuda/peer.py` one after the other; a line of JSON is appended as each ends.
func timeCases(_ options: Options) throws -> Bool {
  let bench = try SpeedBench(options)
  try bench.copies()
  var isRight = true
  let cases: [String: () throws -> Void] = [
    "dit-train": { try bench.training("dit-train", isLowRank: false) },
    "dit-train-host": { try bench.training("dit-train-host", isLowRank: false, state: .host) },
    "dit-lora": { try bench.training("dit-lora", isLowRank: true) },
    "sample": bench.sampling, "vocoder-train": bench.vocoding,
  ]
  for name in options.cases.isEmpty ? ["dit-train", "dit-lora", "sample", "vocoder-train"] : options.cases {
    guard let run = cases[name] else {
      Options.fail("no case '\(name)'; there are \(cases.keys.sorted().joined(separator: ", "))")
    }
    guard bench.secondsLeft > 1 else {
      FileHandle.standardError.write(Data("no time left for \(name)\n".utf8))
      continue
    }
    do { try run() } catch {
      isRight = false
      try bench.record(name, [:], error: "\(error)")
    }
  }
  return isRight
}

/// The most memory this process had, in bytes.
private func peakMemory() -> Int {
  let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
  return (line.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.first ?? 0) * 1024
}

/// Normal numbers of a stream.
func drawn(_ stream: Int, _ count: Int) -> [Float] {
  var random = Philox(seed: UInt64(stream), label: "speed")
  return (0..<count).map { _ in Float(random.normal()) }
}

/// One run of the cases.
final class SpeedBench {
  let options: Options
  let backend: any Backend
  private let cuda: CUDABackend?
  /// Bytes of the device that are in use before anything is taken.
  let context: Int
  private let start = DispatchTime.now().uptimeNanoseconds
  private var values: [String: HostTensor] = [:]
  /// Notes of trials that are recorded already.
  private var noted = 0

  init(_ options: Options) throws {
    self.options = options
    backend = try options.backend()
    cuda = backend as? CUDABackend
    context = (try cuda?.memory()).map { $0.total - $0.free } ?? 0
  }

  private func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9 }
  var secondsLeft: Double { options.budget - elapsed() }

  /// Milliseconds of each run after those that warm up; each run ends when its result is on the host.
  func times(warm: Int = 3, _ body: () throws -> Void) throws -> [Double] {
    for _ in 0..<(options.isTiny ? 1 : warm) { try body() }
    var result: [Double] = []
    repeat {
      let begin = elapsed()
      try body()
      result.append((elapsed() - begin) * 1e3)
    } while result.count < (options.isTiny ? 2 : options.runs) && secondsLeft > 0
    return result
  }

  /// Appends a line of JSON: numbers and texts of a case, and the memory in use.
  func record(
    _ name: String, _ numbers: [String: Double], times: [Double] = [], losses: [Double] = [],
    error: String? = nil
  ) throws {
    var line: [String: Any] = ["case": name, "by": "flow \(backend.name)", "tiny": options.isTiny]
    if let cuda {
      line["device"] = cuda.summary
      line["precision"] = cuda.precision.rawValue
      let memory = try? cuda.memory()
      line["used"] = memory.map { $0.total - $0.free }
      // Which forms of steps were tried since the last case, and which is taken.
      let notes = cuda.notesOfTrials
      if notes.count > noted { line["trials"] = Array(notes[noted...]) }
      noted = notes.count
    } else {
      line["used"] = peakMemory()
    }
    for (key, value) in numbers { line[key] = value }
    if !times.isEmpty {
      line["ms"] = times.sorted()[times.count / 2]
      line["all_ms"] = times
    }
    if !losses.isEmpty { line["losses"] = losses }
    line["error"] = error
    try options.record(line)
  }

  /// Random values for the parameters of a list, alike where shape and initialiser are: a billion are made in a second.
  func weights(_ list: ParameterList, _ type: DType = .float32) throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for declaration in list.declarations {
      let shape = declaration.tensor.shape
      let key = "\(shape) \(declaration.initializer) \(type)"
      if values[key] == nil {
        let count = shape.reduce(1, *)
        let piece = 1 << 20
        let drawn = try declaration.initializer.values("block", [min(count, piece)], seed: 7).floats
        var all = drawn
        all.reserveCapacity(count)
        while all.count < count { all += drawn.prefix(count - all.count) }
        values[key] = try HostTensor(all, shape).cast(to: type)
      }
      result[declaration.name] = values[key]
    }
    return result
  }

  /// Where the time of a program's steps goes: alike ones together, those that take most first, with what they can't do without.
  func profile(_ name: String, _ program: Program) throws {
    guard options.profiles else { return }
    let most = 60
    // Of less, what the cache keeps would tell.
    let least = cuda.map { $0.cache * 2 } ?? 0
    let kinds = try program.profile(
      runs: options.isTiny ? 1 : 3, together: cuda == nil ? 0 : most, least: least, cold: cuda?.cache)
    try options.record([
      "part": "profile", "case": name, "steps": kinds.reduce(0) { $0 + $1.steps },
      "ms": kinds.reduce(0) { $0 + $1.seconds } * 1e3,
      "flop": kinds.reduce(0) { $0 + $1.flops }, "bytes": kinds.reduce(0) { $0 + $1.bytes },
    ])
    for kind in kinds.prefix(most) {
      var line: [String: Any] = [
        "part": "profile", "case": name, "op": kind.op, "inputs": list(kind.inputs),
        "outputs": list(kind.outputs), "count": kind.count, "steps": kind.steps, "ms": kind.seconds * 1e3,
        "flop": kind.flops, "bytes": kind.bytes, "product": kind.isProduct,
      ]
      line["together_ms"] = kind.together.map { $0 * 1e3 }
      line["cold_ms"] = kind.cold.map { $0 * 1e3 }
      try options.record(line)
    }
  }

  private func list(_ values: [ProfiledKind.Value]) -> String {
    values.map(\.description).joined(separator: ", ")
  }

  /// What the device's memory gives, measured as steps that follow one another are, for a value of the transformer, four times as
  /// much, and what no cache is near.
  func copies() throws {
    guard let cuda, options.profiles else { return }
    let sizes = [9200 * 2048 * 2, 9200 * 8192 * 2, 1 << 30].map { options.isTiny ? $0 / 1024 : $0 }
    var line: [String: Any] = ["part": "copy", "cache": cuda.cache]
    do {
      for (size, rate) in zip(sizes, try cuda.copyRates(sizes)) {
        (line["bytes"], line["gbs"]) = (2 * size, rate / 1e9)
        try options.record(line)
      }
    } catch TensorError.outOfMemory(let bytes, _) {
      line["skipped"] = "no memory for \(bytes) bytes"
      try options.record(line)
    }
  }
}
