import FlowCore
import FlowStageKit

/// Pieces of JSON schema that pipelines and declarations share.
enum SchemaParts {
  /// What can name a folder: as `DocumentReader.checkName`.
  static let namePattern = "^(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
  static let name: JSON = ["type": ["string", "number", "boolean"], "pattern": .string(namePattern)]
  static let names: JSON = ["pattern": .string(namePattern)]

  /// Any scalar is text where text is wanted.
  static let text: JSON = ["type": ["string", "number", "boolean", "null"]]
  static let texts: JSON = .object([
    "anyOf": [text, .object(["type": "array", "items": text])]
  ])

  /// A text with a reference such as `${params.seed}`.
  static let reference: JSON = ["type": "string", "pattern": "\\$\\{[^}]*\\}"]

  static func described(_ schema: JSON, _ text: String) -> JSON {
    guard case .object(var members) = schema else { return schema }
    members["description"] = .string(text)
    return .object(members)
  }

  private static let count: JSON = ["type": "integer", "minimum": 0, "maximum": 1_000_000]

  private static let memory: JSON = [
    "anyOf": [
      ["type": "integer", "minimum": 0], ["type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$"],
    ]
  ]

  static var resources: JSON {
    .object([
      "type": ["object", "null"], "additionalProperties": false,
      "properties": .object([
        "cpu": described(count, "Threads; 0 is all of the run's."),
        "memory": described(memory, "Such as 512MiB."),
        "gpu": described(count, "GPUs, handed out by id."),
        "tokens": .object([
          "type": ["object", "null"], "propertyNames": names, "additionalProperties": count,
          "description": "Names of your own; 'limits' of the pipeline says how many there are.",
        ]),
      ]),
    ])
  }

  static var limits: JSON {
    .object([
      "type": ["object", "null"],
      "propertyNames": .object(["allOf": [names, ["not": ["enum": ["cpu", "gpu"]]]]]),
      "properties": .object(["memory": memory]),
      "additionalProperties": ["type": "integer", "minimum": 1, "maximum": 1_000_000],
      "description": "How many there are of each token; memory: the most at once.",
    ])
  }

  /// A value of the parameter's type and range.
  static func value(_ kind: ParameterDeclaration.Kind) -> JSON {
    func bounded(_ type: String, _ low: JSON?, _ high: JSON?) -> JSON {
      var members: [String: JSON] = ["type": .string(type)]
      if let low { members["minimum"] = low }
      if let high { members["maximum"] = high }
      return .object(members)
    }
    func list(_ element: JSON) -> JSON {
      .object(["type": "array", "items": .object(["anyOf": .array([element, reference])])])
    }
    let scalar: JSON = ["type": ["string", "number", "boolean"]]
    switch kind {
    case .bool: return ["type": "boolean"]
    case .int(let low, let high): return bounded("integer", low.map { .int($0) }, high.map { .int($0) })
    case .float(let low, let high):
      return bounded("number", low.map { .double($0) }, high.map { .double($0) })
    case .string: return scalar
    case .file: return ["type": "string"]
    case .choice(let choices): return .object(["enum": .array(choices.map { .string($0) })])
    case .ints(let low, let high):
      return list(bounded("integer", low.map { .int($0) }, high.map { .int($0) }))
    case .floats(let low, let high):
      return list(bounded("number", low.map { .double($0) }, high.map { .double($0) }))
    case .strings: return list(scalar)
    }
  }
}
