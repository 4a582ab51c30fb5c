import FlowOpTable
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Foundation

extension Options {
  /// What the device may be off by, relative to the largest element: rounding of float32, of TF32's operands, and of bfloat16
  /// operands and intermediate values.
  var tolerance: Double {
    guard device == "cuda" else { return 2e-5 }
    switch precision {
    case .float32: return 2e-5
    case .tf32: return 4e-3
    case .bfloat16: return 4e-2
    }
  }
}

/// Runs the op table with fresh inputs in memory that holds no numbers; right when nothing is further off than it may be.
func checkOps(_ options: Options) throws -> Bool {
  let device = Device(
    options.name, try options.poisoned(), tolerance: options.tolerance)
  var worst: [String: (error: Double, relative: Double, cases: Int)] = [:]
  var wrong = 0
  let chosen = OpCase.all.enumerated().filter {
    $0.offset % options.every == 0 && (options.only.isEmpty || $0.element.op.name.hasPrefix(options.only))
  }
  for (_, test) in chosen {
    do {
      for found in try test.deviations(on: device, seed: options.seed) {
        var known = worst[test.op.name] ?? (0, 0, 0)
        known.error = max(known.error, found.worst)
        known.relative = max(known.relative, found.relative)
        known.cases += 1
        worst[test.op.name] = known
        guard found.worst > device.tolerance else { continue }
        wrong += 1
        try options.record([
          "part": "ops", "device": device.description, "case": test.description, "ok": false,
          "view": "\(found.view)", "result": found.index, "error": number(found.worst),
          "relative": number(found.relative),
        ])
      }
    } catch {
      wrong += 1
      try options.record([
        "part": "ops", "device": device.description, "case": test.description, "ok": false,
        "problem": "\(error)",
      ])
      // What follows on a lost device says nothing.
      if case TensorError.device = error, (try? options.backend().makeBuffer(16)) == nil { break }
    }
  }
  for (name, known) in worst.sorted(by: { $0.key < $1.key }) {
    try options.record([
      "part": "ops", "device": device.description, "op": name, "ok": known.error <= device.tolerance,
      "error": number(known.error), "relative": number(known.relative), "results": known.cases,
    ])
  }
  try options.record([
    "part": "ops", "device": device.description, "cases": chosen.count, "wrong": wrong, "ok": wrong == 0,
    "seed": options.seed, "tolerance": device.tolerance,
  ])
  return wrong == 0 && !chosen.isEmpty
}

/// JSON has no infinity.
private func number(_ value: Double) -> Any { value.isFinite ? value : "\(value)" }

extension Options {
  func poisoned() throws -> any Backend {
    func wrapped(_ backend: some Backend) -> any Backend { Poisoned(backend) }
    return wrapped(try backend())
  }
}
