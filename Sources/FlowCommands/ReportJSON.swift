import FlowCore
import FlowEngine
import FlowPlan

extension RunReport {
  /// One document, `flow.plan/1` or `flow.run/1`.
  func document(schema: String, plan: Plan) -> JSON {
    .object([
      "schema": .string(schema), "pipeline": .string(plan.name), "seconds": .double(seconds),
      "interrupted": .bool(interrupted), "lock_file": lockFile.map { .string($0) } ?? .null,
      "forecast": forecast.map { ["seconds": .double($0.seconds), "memory": .int($0.memory)] } ?? .null,
      "results": .object(Dictionary(uniqueKeysWithValues: results.map { ($0.name, JSON.string($0.folder)) })),
      "stages": .array(stages.map(\.document)),
    ])
  }
}

extension StageReport {
  var document: JSON {
    .object([
      "name": .string(name), "state": .string(state.rawValue),
      "reasons": .array(reasons.map { .string($0.description) }),
      "items": .object([
        "total": .int(items.total), "cached": .int(items.cached), "run": .int(items.run),
        "quarantined": .int(items.quarantined),
      ]),
      "expected_seconds": expectedSeconds.map { .double($0) } ?? .null,
      "expected_memory": .int(expectedMemory),
      "seconds": .double(seconds), "failure": failure.map { .string($0) } ?? .null,
      "metrics": .object(metrics.mapValues { .double($0) }),
      "quarantined": .array(quarantined.map { ["id": .string($0.id), "reason": .string($0.reason)] }),
    ])
  }
}
