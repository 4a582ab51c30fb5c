import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

/// Runs the cases of `Benchmarks/cuda/peer.py` one after the other; a line of JSON is appended as each ends.
func timeCases(_ options: Options) throws -> Bool {
  let bench = try SpeedBench(options)
  var isRight = true
  let cases: [String: () throws -> Void] = [
    "dit-train": { try bench.training("dit-train", isLowRank: false) },
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
  private let start = DispatchTime.now().uptimeNanoseconds
  private var values: [String: HostTensor] = [:]

  init(_ options: Options) throws {
    self.options = options
    backend = try options.backend()
    cuda = backend as? CUDABackend
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
    _ name: String, _ numbers: [String: Double], times: [Double] = [], error: String? = nil
  ) throws {
    var line: [String: Any] = ["case": name, "by": "flow \(backend.name)", "tiny": options.isTiny]
    if let cuda {
      line["device"] = cuda.summary
      line["precision"] = cuda.precision.rawValue
      let memory = try? cuda.memory()
      line["used"] = memory.map { $0.total - $0.free }
    } else {
      line["used"] = peakMemory()
    }
    for (key, value) in numbers { line[key] = value }
    if !times.isEmpty {
      line["ms"] = times.sorted()[times.count / 2]
      line["all_ms"] = times
    }
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

  /// Where the time of a program's steps goes, the longest kinds first, on the error stream.
  func profile(_ name: String, _ program: Program) throws {
    guard options.profiles else { return }
    let steps = try program.profile(runs: options.isTiny ? 1 : 3)
    var text = ""
    let byPlace = steps.enumerated().sorted { $0.element.seconds > $1.element.seconds }
    let total = steps.reduce(0) { $0 + $1.seconds }
    text += String(format: "%@: %d steps, %.3f ms one by one\n", name, steps.count, total * 1e3)
    var kinds: [String: (seconds: Double, count: Int)] = [:]
    for step in steps {
      kinds[step.op, default: (0, 0)].seconds += step.seconds
      kinds[step.op, default: (0, 0)].count += 1
    }
    for (op, kind) in kinds.sorted(by: { $0.value.seconds > $1.value.seconds }).prefix(25) {
      text += String(
        format: "  %9.3f ms %5.1f %% %5d x %@\n", kind.seconds * 1e3, 100 * kind.seconds / max(total, 1e-12),
        kind.count, op)
    }
    for (index, step) in byPlace.prefix(30) {
      text += String(
        format: "  %9.3f ms #%d %@ %@ -> %@\n", step.seconds * 1e3, index, step.op, "\(step.inputs)",
        "\(step.outputs)")
    }
    FileHandle.standardError.write(Data(text.utf8))
  }
}
