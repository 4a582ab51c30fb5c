import FlowTensor
import FlowTensorCPU
import Foundation

/// A case of `Benchmarks/tensor`: made once, then run again and again.
struct TensorCase {
  /// What is timed; a scalar that the peer must get too, if it has one.
  var run: () throws -> Float?
  /// Floating-point operations of matrix products, convolutions and attention in one run.
  var productFlops = 0
  /// The program that is timed.
  var program: Program
  /// Computes, after the timing, a scalar that the peer must get too.
  var check: (() throws -> Float)?
}

/// Numbers in -1..<1 that the peer makes too: a hash of position and stream.
func hashed(_ stream: Int, _ count: Int) -> [Float] {
  (0..<count).map { index in
    var x = UInt32(truncatingIfNeeded: index &+ stream &* 7919)
    x = x &* 2_654_435_761
    x ^= x >> 15
    x = x &* 2_246_822_519
    x ^= x >> 13
    return Float(Double(x) / 2_147_483_648 - 1)
  }
}

/// The initial value of the parameter number `index` of a model, as the peer makes it.
func initial(_ index: Int, _ name: String, _ shape: [Int]) throws -> HostTensor {
  let (count, values) = (shape.reduce(1, *), hashed(index, shape.reduce(1, *)))
  if shape.count > 1, count > shape[0] {
    let scale = 1 / (Float(count) / Float(shape[0])).squareRoot()
    return try HostTensor(values.map { $0 * scale }, shape)
  }
  let isOffset = ["bias", "alpha", "beta"].contains { name.hasSuffix($0) }
  return try HostTensor(values.map { $0 * 0.1 + (isOffset ? 0 : 1) }, shape)
}

/// The most memory this process had, in bytes.
func peakMemory() -> Int {
  let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
  return (line.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.first ?? 0) * 1024
}

/// Runs a case once to warm up and `runs` times for the clock, and prints a line of JSON.
func timeTensor(_ name: String, threads: Int, runs: Int) throws {
  let empty = peakMemory()
  let backend = CPUBackend(threads: threads)
  guard let make = tensorCases[name] else {
    fail("no case '\(name)'; there are \(tensorCases.keys.sorted().joined(separator: ", "))")
  }
  let test = try make(backend)
  var value = try test.run()
  let first = value
  var (wall, cpu): ([Double], [Double]) = ([], [])
  for _ in 0..<runs {
    let (start, used) = (DispatchTime.now().uptimeNanoseconds, cpuSeconds())
    value = try test.run()
    cpu.append(cpuSeconds() - used)
    wall.append(Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9)
  }
  let peak = peakMemory()
  var checks = [first, value].compactMap { $0 }
  if let check = test.check { checks = [try check()] }
  let list = checks.map { "\($0)" }.joined(separator: ", ")
  print(
    "{\"case\": \"\(name)\", \"wall\": \(wall), \"cpu\": \(cpu), \"peak\": \(peak), \"empty\": \(empty), "
      + "\"flop\": \(test.productFlops), \"check\": [\(list)]}")
}

/// Prints where a case's time goes: its memory, the seconds of its programs' steps by kind, and the longest ones.
func profileTensor(_ name: String, threads: Int) throws {
  guard let make = tensorCases[name] else { fail("no case '\(name)'") }
  let test = try make(CPUBackend(threads: threads))
  _ = try test.run()
  let alike = try test.program.profile(runs: 5)
  let (total, steps) = alike.reduce((0.0, 0)) { ($0.0 + $1.seconds, $0.1 + $1.steps) }
  var kinds: [String: (seconds: Double, count: Int)] = [:]
  for kind in alike {
    kinds[kind.op, default: (0, 0)].seconds += kind.seconds
    kinds[kind.op, default: (0, 0)].count += kind.count
  }
  print("arena \(test.program.arenaCount * 4 / 1_048_576) MiB, \(steps) steps, \(total * 1e3) ms")
  for (op, found) in kinds.sorted(by: { $0.value.seconds > $1.value.seconds }).prefix(30) {
    print(
      String(
        format: "%9.3f ms %5.1f %% %4d x ", found.seconds * 1e3, found.seconds / total * 100, found.count)
        + op)
  }
  for kind in alike.prefix(20) {
    print(
      String(format: "%9.3f ms %4d x ", kind.seconds * 1e3, kind.count)
        + "\(kind.op) \(kind.inputs) -> \(kind.outputs)")
  }
}
