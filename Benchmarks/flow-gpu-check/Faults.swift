import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

/// Faults on the real driver, each in a process of its own: what is said, and that what was there before is whole after.
func checkFaults(_ options: Options) throws -> Bool {
  guard options.device == "cuda" else { Options.fail("faults are those of --device cuda") }
  var isRight = true
  func note(_ what: String, _ ok: Bool, _ text: String) throws {
    try options.record(["part": "faults", "device": options.name, "what": what, "ok": ok, "said": text])
    isRight = isRight && ok
  }
  func fault(_ name: String, saying words: String...) throws {
    let child = Child("fault-\(name)", options)
    let text = try child.finish()
    try note(name, child.code == 0 && words.allSatisfy(text.contains), text)
  }
  try fault("memory", saying: "out of memory", "MiB more were needed", "goes on")
  try fault("compilation", saying: "does not compile", "error")

  let folder = NSTemporaryDirectory() + "/flow-gpu-check-faults-\(ProcessInfo.processInfo.processIdentifier)"
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  let wanted = try Child("train-digest", options).finish()

  let checkpoint = folder + "/checkpoint"
  let lost = Child("fault-loss", options, ["--out", checkpoint])
  let said = try lost.finish()
  let resumed = try Child("train-digest", options, ["--from", checkpoint]).finish()
  try note(
    "loss", lost.code == 0 && said.contains("lost") && said.contains("checkpoint") && resumed == wanted,
    said + (resumed == wanted ? "; resumed with the same bits" : "; NOT resumed with the same bits"))

  let both = [Child("train-digest", options), Child("train-digest", options)]
  let digests = try both.map { try $0.finish() }
  try note(
    "two processes on one device", digests.allSatisfy { $0 == wanted } && wanted.count == 64,
    digests.joined(separator: " "))

  let kernels = folder + "/kernels"
  let damaged = ["FLOW_KERNEL_CACHE": kernels]
  _ = try Child("train-digest", options, environment: damaged).finish()
  let kept = try FileManager.default.contentsOfDirectory(atPath: kernels).map { kernels + "/" + $0 }
  for (index, path) in kept.enumerated() {
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    try (index % 2 == 0 ? bytes.prefix(bytes.count / 2) : Data(bytes.map { $0 ^ 1 })).write(
      to: URL(fileURLWithPath: path))
  }
  let again = try Child("train-digest", options, environment: damaged).finish()
  try note("damaged kernels on disk", again == wanted && !kept.isEmpty, "\(kept.count) files, made again")
  return isRight
}

/// This program in another process.
private final class Child {
  private let process = Process()
  private let output = Pipe()
  /// Its exit code, once it has finished.
  var code: Int32 { process.terminationStatus }

  init(_ part: String, _ options: Options, _ more: [String] = [], environment: [String: String] = [:]) {
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments =
      [
        part, "--device", options.device, "--precision", options.precision.rawValue, "--seed",
        "\(options.seed)",
        "--steps", "\(options.steps)",
      ] + more
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardOutput = output
    problem = Result { try process.run() }
  }
  private var problem = Result<Void, any Error>.success(())

  /// What it said; what it logs is another's.
  func finish() throws -> String {
    try problem.get()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// A training to its end, from a checkpoint if there is one: the digest of its weights.
func printTrainingDigest(_ options: Options) throws -> Bool {
  let trainer = try smallTraining(options, options.backend())
  if !options.checkpoint.isEmpty {
    try trainer.loop.restore(Data(contentsOf: URL(fileURLWithPath: options.checkpoint)))
  }
  try trainer.loop.run()
  var hasher = SHA256()
  for (name, value) in try trainer.loop.weights().sorted(by: { $0.key < $1.key }) {
    hasher.field(name, value.floats.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) })
  }
  print(hasher.finish().hex)
  return true
}

/// Makes the fault `name` happen, and prints what is said of it; right when it is an error that a reader is told.
func makeFault(_ name: String, _ options: Options) throws -> Bool {
  let backend = try CUDABackend(precision: options.precision)
  do {
    switch name {
    case "memory":
      let graph = Graph()
      let x = try graph.input("x", [Int(try backend.memory().total) / 4 / 2, 4])
      _ = try Program(graph, outputs: ["y": x.tanh()], parameters: ParameterStore(backend))
    case "loss":
      let trainer = try smallTraining(options, backend)
      try trainer.loop.run { point in
        guard point.step == options.steps / 2 else { return }
        try Data(trainer.loop.checkpoint()).write(to: URL(fileURLWithPath: options.output), options: .atomic)
        do { try backend.provoke(.loss) } catch { print("\(error)") }
      }
    default: try backend.provoke(.compilation)
    }
  } catch let error as TensorError {
    print("\(error)")
    guard name == "memory" else { return true }
    // The device is whole: a training on it runs.
    var short = options
    short.steps = 20
    try smallTraining(short, backend).loop.run()
    print("the device goes on")
    return true
  }
  return false
}
