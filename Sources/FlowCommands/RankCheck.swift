import FlowCore
import FlowEngine
import FlowMPI
import FlowStageKit
import FlowStages
import Foundation

/// `flow doctor --ranks N`: starts N ranks as a training does, and sees whether what they say to each other arrives.
enum RankCheck {
  /// What rank 0 found.
  struct Result: Codable {
    var ranks: Int
    /// Seconds that a sum of `floats` values takes, the median.
    var seconds: Double
    var floats: Int
    /// What came of the same on the ranks' CUDA devices; `nil` where there are none.
    var devices: String?
  }

  /// A number of each rank for each place, so uneven that the order of adding shows.
  static func value(_ rank: Int, _ place: Int) -> Float {
    var random = Philox(seed: UInt64(rank), stream: UInt64(place % 1009))
    return Float(random.uniform(-1...1) * pow(10, Double(place % 7)))
  }

  /// Starts `ranks` of `program`; what rank 0 found.
  /// - Throws: `StageFailure` with what the ranks wrote.
  static func run(ranks: Int, program: String = Exec.program) throws -> Result {
    let words = try RankLauncher.command(
      [program, "exec", "--cache", ".", "--check-ranks"], ranks: ranks,
      environment: ProcessInfo.processInfo.environment)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: words[0])
    process.arguments = Array(words.dropFirst())
    let (out, error) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError) = (out, error)
    process.standardInput = FileHandle.nullDevice
    try process.run()
    // Neither holds more than a pipe takes.
    let said = out.fileHandleForReading.readDataToEndOfFile()
    let complaint = error.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    if process.terminationStatus == 0, let result = try? JSONDecoder().decode(Result.self, from: said) {
      return result
    }
    throw StageFailure(
      "\(ranks) ranks ended with status \(process.terminationStatus): "
        + RankLauncher.gist(String(decoding: complaint, as: UTF8.self)))
  }

  /// Sees that all ranks run on processors of one class: on others the last digits differ, and weights would drift apart.
  /// - Throws: `StageFailure`, `MPIError`.
  static func agree(_ ranks: any Communicator, processor: String) throws {
    let first = String(decoding: try ranks.broadcast(Array(processor.utf8)), as: UTF8.self)
    guard first == processor else {
      throw StageFailure(
        "rank \(ranks.rank) runs on a processor of class \(processor), the first on one of \(first): "
          + "export OPENBLAS_CORETYPE=Haswell, or ask for nodes of one kind")
    }
  }

  /// A rank's side.
  /// - Throws: `MPIError`, `StageFailure`.
  static func serve(_ mpi: OpenMPI) throws {
    func fail(_ what: String) -> StageFailure { StageFailure("rank \(mpi.rank): \(what)") }
    // More than one piece, and no whole number of shares.
    let count = (1 << 20) + 4099
    var values = (0..<count).map { value(mpi.rank, $0) }
    try mpi.sum(&values)
    for place in stride(from: 0, to: count, by: 61) {
      let sum = (1..<mpi.size).reduce(value(0, place)) { $0 + value($1, place) }
      guard values[place].bitPattern == sum.bitPattern else {
        throw fail("a sum is \(values[place]), not \(sum)")
      }
    }
    for count in [0, 1, 70_000] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      let heard = try mpi.broadcast(mpi.rank == 0 ? bytes : [1, 2, 3])
      guard heard == bytes else { throw fail("\(heard.count) bytes came instead of \(count)") }
    }
    var nothing: [Float] = []
    try mpi.sum(&nothing)
    let clock = ContinuousClock()
    var times: [Double] = []
    for _ in 0..<9 {
      try mpi.barrier()
      let duration = try clock.measure { try mpi.sum(&values) }.components
      times.append(Double(duration.seconds) + Double(duration.attoseconds) * 1e-18)
    }
    let devices = try Devices.check(mpi, count: count, value)
    if mpi.rank == 0 {
      let result = Result(
        ranks: mpi.size, seconds: times.sorted()[4], floats: values.count, devices: devices)
      FileHandle.standardOutput.write(try JSONEncoder().encode(result))
    }
    try mpi.finish()
  }
}
