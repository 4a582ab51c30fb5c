public import FlowCore
import FlowStageKit

/// The JSON schema (draft 7) of pipelines over a catalog, for editors: every key, type, range, default and doc of every
/// stage.
public enum PipelineSchema {
  /// The schema's document.
  public static func document(_ catalog: StageCatalog) -> JSON {
    let stages = catalog.names.compactMap { catalog[$0] }
    let named: [JSON] = stages.map { stage in
      .object([
        "if": .object([
          "properties": .object(["uses": .object(["const": .string(stage.name)])]), "required": ["uses"],
        ]),
        "then": .object(["properties": .object(["with": with(stage), "in": inputs(stage)])]),
      ])
    }
    // A stage without 'uses' is the declared stage of its name.
    let implied = Dictionary(
      uniqueKeysWithValues: stages.map { stage in
        (
          stage.name,
          JSON.object([
            "allOf": [
              ["$ref": "#/definitions/stage"],
              .object([
                "if": ["not": ["required": ["uses"]]],
                "then": .object(["properties": .object(["with": with(stage), "in": inputs(stage)])]),
              ]),
            ]
          ])
        )
      })
    return .object([
      "$schema": "http://json-schema.org/draft-07/schema#",
      "title": "flow pipeline",
      "type": "object",
      "additionalProperties": false,
      "properties": .object([
        "flow": ["const": 1, "description": "The version of the language."],
        "name": .object(["type": "string", "pattern": .string(namePattern)]),
        "extends": ["anyOf": [["type": "string"], ["type": "array", "items": ["type": "string"]]]],
        "params": ["type": ["object", "null"]],
        "sources": .object(["type": ["object", "null"], "additionalProperties": source]),
        "stages": .object([
          "type": "object", "properties": .object(implied),
          "additionalProperties": ["$ref": "#/definitions/stage"],
        ]),
        "outputs": [
          "type": ["object", "null"], "additionalProperties": ["$ref": "#/definitions/references"],
        ],
      ]),
      "anyOf": [["required": ["flow", "stages"]], ["required": ["extends"]]],
      "definitions": .object([
        "references": [
          "anyOf": [["type": "string"], ["type": "array", "items": ["type": "string"]], ["type": "null"]]
        ],
        "stage": .object([
          "type": ["object", "null"], "additionalProperties": false, "properties": stageProperties(stages),
          "allOf": .array(named),
        ]),
      ]),
    ])
  }

  private static let namePattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

  private static let texts: JSON = [
    "anyOf": [["type": "string"], ["type": "array", "items": ["type": "string"]]]
  ]

  private static var source: JSON {
    .object([
      "type": "object", "additionalProperties": false,
      "anyOf": [["required": ["path"]], ["required": ["manifest"]]],
      "properties": .object([
        "path": ["type": "string", "description": "A folder or file, of this file's folder."],
        "manifest": ["type": "string", "description": "JSONL: an item a line, {\"id\": …, \"path\": …}."],
        "glob": texts, "exclude": texts,
        "license": ["type": "string", "description": "SPDX, such as CC0-1.0."],
      ]),
    ])
  }

  private static func stageProperties(_ stages: [StageDeclaration]) -> JSON {
    let counts: JSON = ["type": "integer", "minimum": 0, "maximum": 100]
    return .object([
      "uses": .object(["enum": .array(stages.map { .string($0.name) }), "description": "The declared stage."]
      ),
      "in": ["type": "object"], "with": ["type": ["object", "null"]],
      "matrix": ["type": "object", "description": "A stage for every combination: ${matrix.KEY}."],
      "when": ["type": ["boolean", "string"], "description": "true, false, 'A == B' or 'A != B'."],
      "on_error": ["enum": ["skip", "fail"]],
      "retain": ["enum": ["never", "until-consumed", "lru", "pin"]],
      "timeout": ["type": ["number", "string"], "description": "Such as 90s, 15min or 2h."],
      "retry": .object([
        "type": "object", "additionalProperties": false,
        "properties": .object(
          Dictionary(uniqueKeysWithValues: FailureCause.allCases.map { ($0.rawValue, counts) })),
      ]),
      "resources": .object([
        "type": "object", "additionalProperties": false,
        "properties": [
          "cpu": ["type": "integer", "minimum": 0, "description": "Threads; 0 is all of the run's."],
          "memory": ["type": ["string", "integer"], "description": "Such as 512MiB."],
        ],
      ]),
    ])
  }

  private static func inputs(_ stage: StageDeclaration) -> JSON {
    let properties = stage.inputs.map { input in
      (
        input.name,
        JSON.object([
          "allOf": [["$ref": "#/definitions/references"]],
          "description": .string("\(input.type.rawValue). \(input.doc)"),
        ])
      )
    }
    return .object([
      "type": "object", "additionalProperties": false,
      "properties": .object(Dictionary(uniqueKeysWithValues: properties)),
      "required": .array(stage.inputs.filter { !$0.optional }.map { .string($0.name) }),
    ])
  }

  private static func with(_ stage: StageDeclaration) -> JSON {
    let properties = stage.parameters.map { ($0.name, parameter($0)) }
    return .object([
      "type": ["object", "null"], "additionalProperties": false,
      "properties": .object(Dictionary(uniqueKeysWithValues: properties)),
    ])
  }

  /// A value of the parameter's type, or a text with a reference such as `${params.seed}`.
  private static func parameter(_ parameter: ParameterDeclaration) -> JSON {
    let reference: JSON = ["type": "string", "pattern": "\\$\\{[^}]*\\}"]
    func bounded(_ type: String, _ low: JSON?, _ high: JSON?) -> [String: JSON] {
      var members: [String: JSON] = ["type": .string(type)]
      if let low { members["minimum"] = low }
      if let high { members["maximum"] = high }
      return members
    }
    let value: JSON
    switch parameter.kind {
    case .bool: value = ["type": "boolean"]
    case .int(let low, let high):
      value = .object(bounded("integer", low.map { .int($0) }, high.map { .int($0) }))
    case .float(let low, let high):
      value = .object(bounded("number", low.map { .double($0) }, high.map { .double($0) }))
    case .string: value = ["type": ["string", "number", "boolean"]]
    case .file: value = ["type": "string"]
    case .choice(let choices): value = .object(["enum": .array(choices.map { .string($0) })])
    case .ints(let low, let high):
      let element = JSON.object(bounded("integer", low.map { .int($0) }, high.map { .int($0) }))
      value = .object(["type": "array", "items": element])
    case .floats(let low, let high):
      let element = JSON.object(bounded("number", low.map { .double($0) }, high.map { .double($0) }))
      value = .object(["type": "array", "items": element])
    case .strings: value = ["type": "array", "items": ["type": ["string", "number", "boolean"]]]
    }
    var choices: [JSON] = [value, reference]
    if parameter.standard == .null { choices.append(["type": "null"]) }
    var members: [String: JSON] = ["anyOf": .array(choices)]
    let unit = parameter.unit.isEmpty ? "" : " [\(parameter.unit)]"
    members["description"] = .string(parameter.doc + unit)
    if let standard = parameter.standard, standard != .null { members["default"] = standard }
    return .object(members)
  }
}
