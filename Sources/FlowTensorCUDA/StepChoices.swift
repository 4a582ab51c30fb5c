import FlowCore
import FlowTensor

/// Which of the ways to do a program's steps are taken: those that trials on this device, now or in an earlier process,
/// found the fastest; the work itself where there was none.
struct StepChoices {
  /// A step whose work has alternatives.
  struct Candidate {
    /// For a reader.
    let title: String
    let work: Work
    let trial: StepTrial
  }
  let backend: CUDABackend

  /// The work that is taken for each of `candidates`, by the numbers of their steps. Steps of a kind are tried once. Nothing
  /// is being recorded when this is called.
  func taken(_ candidates: [Int: Candidate]) throws(TensorError) -> [Int: Work] {
    if candidates.isEmpty { return [:] }
    let trials = backend.trials
    let steps = candidates.sorted { $0.key < $1.key }
    let kinds = try kinds(steps.map(\.value))
    var open: [(kind: String, candidate: Candidate)] = []
    for (kind, step) in zip(kinds, steps) where index(kind, step.value) == nil {
      if !open.contains(where: { $0.kind == kind }) { open.append((kind, step.value)) }
    }
    if !open.isEmpty, trials.hasTime {
      var kernels = Set(open.flatMap { ways($0.candidate).flatMap { $0.launches.map(\.kernel) } })
      let operands = open.flatMap { $0.candidate.trial.context.inputs }
      kernels.formUnion(Trial.kernels(operands.map(\.cType)))
      try backend.compiler.prepare(kernels)
      for (kind, candidate) in open {
        let outcome = try trials.timed { limit throws(TensorError) in
          try candidate.trial.outcome(backend.device, backend.compiler, within: limit)
        }
        guard let outcome else { continue }
        trials.remember(kind, [UInt64(outcome.taken)])
        trials.note(note(candidate, outcome))
      }
    }
    var result: [Int: Work] = [:]
    for (kind, step) in zip(kinds, steps) {
      let index = index(kind, step.value) ?? 0
      result[step.key] = ways(step.value)[index]
      if index > 0, !open.contains(where: { $0.kind == kind }) {
        trials.note("\(step.value.title): \(ways(step.value)[index].form), as tried before")
      }
    }
    return result
  }

  private func ways(_ candidate: Candidate) -> [Work] { [candidate.work] + candidate.work.alternatives }

  /// Which way is known to be the fastest; what isn't the number of one is none.
  private func index(_ kind: String, _ candidate: Candidate) -> Int? {
    guard let words = backend.trials.words(kind), words.count == 1 else { return nil }
    return Int(exactly: words[0]).flatMap { ways(candidate).indices.contains($0) ? $0 : nil }
  }

  private func note(_ candidate: Candidate, _ outcome: Trial.Outcome) -> String {
    let times = ways(candidate).enumerated().map { index, way in
      let time = outcome.times[index].map { "\((($0 * 1e6).rounded()) / 1e3) ms" } ?? "not timed"
      return "\(way.form) \(time)"
    }
    let taken = ways(candidate)[outcome.taken].form
    return "\(candidate.title): \(taken), of " + times.joined(separator: "; ")
  }

  /// What tells a kind of step from others: the texts and launches of the kernels that not all its ways have, and its
  /// operands' sizes.
  private func kinds(_ candidates: [Candidate]) throws(TensorError) -> [String] {
    var texts: [Kernel: String] = [:]
    var result: [String] = []
    for candidate in candidates {
      var hasher = SHA256()
      let context = candidate.trial.context
      for operand in context.inputs + context.outputs {
        hasher.field("operand", "\(operand.shape) \(operand.dtype) \(operand.isTurned)".utf8)
      }
      let kernels = ways(candidate).map { Set($0.launches.map(\.kernel)) }
      let common = kernels.dropFirst().reduce(kernels[0]) { $0.intersection($1) }
      for launch in ways(candidate).flatMap(\.launches) where !common.contains(launch.kernel) {
        var unit = launch.kernel
        unit.entry = ""
        if texts[unit] == nil {
          var text = SHA256()
          text.field("text", try KernelCompiler.text(unit).utf8)
          texts[unit] = text.finish().hex
        }
        let kernel = "\(texts[unit] ?? "") \(launch.kernel.entry) \(launch.kernel.defines)"
        hasher.field("launch", "\(kernel) \(launch.grid) \(launch.threads) \(launch.shared)".utf8)
      }
      result.append("step " + hasher.finish().hex.prefix(32))
    }
    return result
  }
}
