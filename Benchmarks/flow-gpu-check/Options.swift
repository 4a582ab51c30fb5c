import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Foundation

/// What the check was asked for, and where its results go.
struct Options {
  var part = ""
  var folder = "."
  var device = "cuda"
  var precision = CUDAPrecision.float32
  var seed: UInt64 = 1
  var steps = 100
  var only = ""
  var every = 1
  var output = ""
  /// Where `train-digest` goes on from; it begins when empty.
  var checkpoint = ""
  /// The cases that are timed; all when empty.
  var cases: [String] = []
  var isTiny = false
  /// Seconds for all of them.
  var budget = 600.0
  var runs = 10
  /// Says where the time of each case goes.
  var profiles = false

  init(_ arguments: ArraySlice<String>) {
    var rest = arguments
    guard let first = rest.popFirst() else {
      Options.fail(usage)
    }
    part = first
    func number(_ option: String) -> Int {
      guard let text = rest.popFirst(), let number = Int(text), number >= 0 else {
        Options.fail("\(option) takes a number")
      }
      return number
    }
    while let option = rest.popFirst() {
      switch option {
      case "--device": device = rest.popFirst() ?? ""
      case "--precision":
        guard let known = CUDAPrecision(rawValue: rest.popFirst() ?? "") else {
          Options.fail("--precision takes float32, tf32 or bfloat16")
        }
        precision = known
      case "--seed": seed = UInt64(number(option))
      case "--steps": steps = max(20, number(option))
      case "--every": every = max(1, number(option))
      case "--cases": cases = (rest.popFirst() ?? "").split(separator: ",").map(String.init)
      case "--tiny": isTiny = true
      case "--budget": budget = Double(number(option))
      case "--runs": runs = max(1, number(option))
      case "--profile": profiles = true
      case "--only": only = rest.popFirst() ?? ""
      case "--from": checkpoint = rest.popFirst() ?? ""
      case "--out": output = rest.popFirst() ?? ""
      case let text where !text.hasPrefix("-"): folder = text
      default: Options.fail("flow-gpu-check doesn't know \(option)")
      }
    }
  }

  /// The device that is checked.
  func backend() throws -> any Backend {
    switch device {
    case "cuda": return try CUDABackend(precision: precision)
    case "blas": return CPUBackend(threads: 2)
    case "plan": return CUDAPlanner(precision: precision)
    default: Options.fail("--device takes cuda, blas or plan")
    }
  }

  /// What the device and its precision are called.
  var name: String { device == "cuda" ? "cuda \(precision.rawValue)" : device }

  /// Appends a line of JSON and prints it.
  func record(_ line: [String: Any]) throws {
    let settings: JSONSerialization.WritingOptions = [.sortedKeys, .withoutEscapingSlashes]
    var data = try JSONSerialization.data(withJSONObject: line, options: settings)
    data.append(10)
    FileHandle.standardOutput.write(data)
    guard !output.isEmpty else { return }
    if !FileManager.default.fileExists(atPath: output) {
      _ = FileManager.default.createFile(atPath: output, contents: nil)
    }
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
    try file.seekToEnd()
    try file.write(contentsOf: data)
    try file.close()
  }

  static func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data((message + "\n").utf8))
    exit(2)
  }
}

/// Says what was found of CUDA; right when the device can be used.
func checkLibraries(_ options: Options) throws -> Bool {
  for library in CUDALibraries.report + [CUDALibraries.nccl] {
    try options.record([
      "part": "libraries", "name": library.name, "ok": library.problem == nil, "version": library.version,
      "path": library.path ?? "", "problem": library.problem ?? "",
    ])
  }
  do {
    let device = try CUDABackend(precision: options.precision)
    try options.record([
      "part": "libraries", "name": "device", "ok": true, "version": device.summary,
      "class": device.numericClass,
    ])
    return true
  } catch {
    try options.record(["part": "libraries", "name": "device", "ok": false, "problem": "\(error)"])
    return false
  }
}
