public import FlowCore
import FlowStageKit

/// The JSON schema (draft 7) of pipelines over a catalog, for editors: every key, type, range, default and doc of every
/// stage. It accepts what `Resolver` accepts and refuses what it refuses, but for names that refer to nothing, types of
/// artifacts, circles, licences, values behind `${…}` and what a base gives.
public enum PipelineSchema {
  /// The schema's document.
  public static func document(_ catalog: StageCatalog) -> JSON {
    let stages = catalog.names.compactMap { catalog[$0] }
    return .object([
      "$schema": "http://json-schema.org/draft-07/schema#",
      "title": "flow pipeline",
      "type": "object",
      "additionalProperties": false,
      "properties": .object([
        "flow": ["const": 1, "description": "The version of the language."],
        "name": SchemaParts.name,
        "extends": ["$ref": "#/definitions/texts"],
        "params": ["type": ["object", "null"]],
        "sources": .object([
          "type": ["object", "null"], "additionalProperties": source, "propertyNames": SchemaParts.names,
        ]),
        "stages": wired(stages),
        "outputs": .object([
          "type": ["object", "null"], "propertyNames": SchemaParts.names,
          "additionalProperties": ["anyOf": [["$ref": "#/definitions/references"], ["type": "null"]]],
        ]),
        "limits": SchemaParts.limits,
        "licenses": .object([
          "type": ["object", "null"], "additionalProperties": false,
          "properties": [
            "allow": [
              "$ref": "#/definitions/texts",
              "description":
                "SPDX names of what gated stages (export) may be made from; all others are denied.",
            ]
          ],
        ]),
      ]),
      // What a file that extends another leaves out is in the base.
      "if": ["required": ["extends"]],
      "else": .object([
        "required": ["flow", "stages"],
        "properties": .object([
          "stages": complete(stages),
          "sources": [
            "additionalProperties": ["oneOf": [["required": ["path"]], ["required": ["manifest"]]]]
          ],
        ]),
      ]),
      "definitions": definitions(stages),
    ])
  }

  /// A stage that names what it uses.
  private static func uses(_ name: String) -> JSON {
    .object([
      "type": "object", "properties": .object(["uses": .object(["const": .string(name)])]),
      "required": ["uses"],
    ])
  }

  /// The inputs and parameters of a declared stage.
  private static func bound(_ name: String) -> JSON {
    func part(_ key: String) -> JSON { .object(["$ref": .string("#/definitions/\(key)-\(name)")]) }
    return .object(["properties": .object(["with": part("with"), "in": part("in")])])
  }

  /// `schema` for what `uses` the stage.
  private static func given(_ stage: StageDeclaration, then schema: JSON) -> JSON {
    .object([
      "if": .object([
        "properties": .object(["uses": .object(["const": .string(stage.name)])]),
        "required": ["uses"],
      ]),
      "then": schema,
    ])
  }

  static func definitions(_ stages: [StageDeclaration]) -> JSON {
    let own = stages.flatMap { [("with-\($0.name)", with($0)), ("in-\($0.name)", inputs($0))] }
    let common: [String: JSON] = [
      "texts": SchemaParts.texts,
      "references": .object([
        "anyOf": [["type": "string"], ["type": "array", "items": ["type": "string"]]],
        "description": "A source, STAGE.OUTPUT, or a list of them.",
      ]),
      "complete": .object([
        "allOf": .array(stages.map { given($0, then: needs($0)) })
      ]),
      "stage": .object([
        "type": ["object", "null"], "additionalProperties": false, "properties": stageProperties(stages),
        "allOf": .array(stages.map { given($0, then: bound($0.name)) }),
      ]),
    ]
    return .object(common.merging(own) { $1 })
  }

  /// The stages of a text: keys and values where they are given.
  static func wired(_ stages: [StageDeclaration]) -> JSON {
    // A stage without 'uses' is the declared stage of its name.
    let implied = stages.map { stage in
      (
        stage.name,
        JSON.object([
          "allOf": [
            ["$ref": "#/definitions/stage"],
            .object([
              "if": ["not": ["type": "object", "required": ["uses"]]],
              "then": bound(stage.name),
            ]),
          ]
        ])
      )
    }
    return .object([
      "type": "object", "propertyNames": SchemaParts.names,
      "properties": .object(Dictionary(uniqueKeysWithValues: implied)),
      "additionalProperties": ["$ref": "#/definitions/stage"],
    ])
  }

  /// What the text of a stage must have: its required inputs and parameters.
  private static func needs(_ stage: StageDeclaration) -> JSON {
    func part(_ key: String, _ names: [String]) -> (String, JSON)? {
      names.isEmpty
        ? nil : (key, .object(["type": "object", "required": .array(names.map { .string($0) })]))
    }
    let parts = [
      part("in", stage.inputs.filter { !$0.optional }.map(\.name)),
      part("with", stage.parameters.filter { $0.standard == nil }.map(\.name)),
    ].compactMap { $0 }
    guard !parts.isEmpty else { return .bool(true) }
    return .object([
      "type": "object", "required": .array(parts.map { .string($0.0) }),
      "properties": .object(Dictionary(uniqueKeysWithValues: parts)),
    ])
  }

  /// The stages of a whole text: what each must have.
  static func complete(_ stages: [StageDeclaration]) -> JSON {
    let implied = stages.map { stage in
      (
        stage.name,
        JSON.object([
          "if": ["not": ["type": "object", "required": ["uses"]]], "then": needs(stage),
          "else": ["$ref": "#/definitions/complete"],
        ])
      )
    }
    return .object([
      "minProperties": 1, "properties": .object(Dictionary(uniqueKeysWithValues: implied)),
      "additionalProperties": [
        "type": "object", "required": ["uses"], "allOf": [["$ref": "#/definitions/complete"]],
      ],
    ])
  }

  private static var source: JSON {
    .object([
      "type": ["object", "null"], "additionalProperties": false,
      "properties": .object([
        "path": ["type": "string", "description": "A folder or file, of this file's folder."],
        "manifest": ["type": "string", "description": "JSONL: an item a line, {\"id\": …, \"path\": …}."],
        "glob": ["$ref": "#/definitions/texts"], "exclude": ["$ref": "#/definitions/texts"],
        "license": ["type": "string", "description": "SPDX, such as CC0-1.0."],
        "author": ["$ref": "#/definitions/texts"],
      ]),
    ])
  }

  private static func stageProperties(_ stages: [StageDeclaration]) -> JSON {
    let counts: JSON = ["type": "integer", "minimum": 0, "maximum": 100]
    let cell: JSON = [
      "anyOf": [
        ["type": ["number", "boolean"]],
        ["type": "string", "pattern": "^[^ \\t\\n/\\\\,=\\[\\]\"'|:;<>?*()&%#@!~^]+$"],
      ]
    ]
    return .object([
      "uses": .object(["enum": .array(stages.map { .string($0.name) }), "description": "The declared stage."]
      ),
      "in": ["type": ["object", "null"]], "with": ["type": ["object", "null"]],
      "matrix": .object([
        "type": ["object", "null"], "description": "A stage for every combination: ${matrix.KEY}.",
        "propertyNames": SchemaParts.names,
        "additionalProperties": .object([
          "anyOf": [
            SchemaParts.reference,
            .object(["type": "array", "minItems": 1, "uniqueItems": true, "items": cell]),
          ]
        ]),
      ]),
      "when": [
        "anyOf": [
          ["type": "boolean"], ["type": "string", "pattern": "^(true|false)$| == | != |\\$\\{[^}]*\\}"],
        ],
        "description": "true, false, 'A == B' or 'A != B'.",
      ],
      "on_error": ["enum": .array(PlannedStage.OnError.allCases.map { .string($0.rawValue) })],
      "retain": ["enum": .array(PlannedStage.Retain.allCases.map { .string($0.rawValue) })],
      "timeout": [
        "anyOf": [
          ["type": "number", "exclusiveMinimum": 0],
          ["type": "string", "pattern": "^(?=.*[1-9])([0-9]+\\.?[0-9]*|\\.[0-9]+)(ms|s|min|h|d)$"],
        ],
        "description": "Such as 90s, 15min or 2h.",
      ],
      "retry": .object([
        "type": ["object", "null"], "additionalProperties": false,
        "properties": .object(
          Dictionary(uniqueKeysWithValues: FailureCause.allCases.map { ($0.rawValue, counts) })),
      ]),
      "resources": SchemaParts.resources,
    ])
  }

  private static func inputs(_ stage: StageDeclaration) -> JSON {
    let properties = stage.inputs.map { input in
      var choices: [JSON] = [["$ref": "#/definitions/references"]]
      if input.optional { choices.append(["type": "null"]) }
      var members: [String: JSON] = [
        "anyOf": .array(choices), "description": .string("\(input.type.rawValue). \(input.doc)"),
      ]
      if !input.optional { members["minItems"] = 1 }
      return (input.name, JSON.object(members))
    }
    return .object([
      "type": ["object", "null"], "additionalProperties": false,
      "properties": .object(Dictionary(uniqueKeysWithValues: properties)),
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
    var choices: [JSON] = [SchemaParts.value(parameter.kind), SchemaParts.reference]
    if parameter.standard == .null { choices.append(["type": "null"]) }
    var members: [String: JSON] = ["anyOf": .array(choices)]
    let unit = parameter.unit.isEmpty ? "" : " [\(parameter.unit)]"
    members["description"] = .string(parameter.doc + unit)
    if let standard = parameter.standard, standard != .null { members["default"] = standard }
    return .object(members)
  }
}
