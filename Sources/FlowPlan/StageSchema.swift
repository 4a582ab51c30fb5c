public import FlowCore
import FlowStageKit

/// The JSON schema (draft 7) of stage declarations, for editors. It accepts and refuses what `StageCatalog` does, but for
/// names that refer to nothing, defaults outside of their range or choices, and what only the stages within know.
public enum StageSchema {
  /// The schema's document; the catalog is for the stages within pipeline stages.
  public static func document(_ catalog: StageCatalog) -> JSON {
    let stages = catalog.names.compactMap { catalog[$0] }
    func run(_ kind: String) -> JSON {
      .object(["properties": .object(["run": .object(["const": .string(kind)])]), "required": ["run"]])
    }
    return .object([
      "$schema": "http://json-schema.org/draft-07/schema#",
      "title": "flow stage",
      "type": "object",
      "if": run("pipeline"), "then": pipeline(stages),
      "else": .object(["if": run("command"), "then": command, "else": native]),
      "definitions": PipelineSchema.definitions(stages),
    ])
  }

  private static func kind(_ own: [String: JSON], needs: [String]) -> [String: JSON] {
    let common: [String: JSON] = [
      "stage": SchemaParts.described(SchemaParts.name, "Its name, which is also its file's."),
      "doc": SchemaParts.text,
      "run": .object([
        "enum": ["native", "command", "pipeline"],
        "description": "A Swift type, a program, or other stages wired here.",
      ]),
    ]
    return [
      "type": "object", "additionalProperties": false,
      "required": .array((["stage", "outputs"] + needs).map { .string($0) }),
      "properties": .object(common.merging(own) { $1 }),
    ]
  }

  private static var single: [String: JSON] {
    [
      "version": .object([
        "type": "integer", "minimum": 1, "description": "Raised when the same inputs give other outputs.",
      ]),
      "per": ["enum": ["item", "all"], "description": "One action for each item, or one for all."],
      "gate": ["enum": ["license"], "description": "Made only if the pipeline's licences allow it."],
      "numeric": [
        "enum": ["blas"],
        "description": "Its numbers depend on the class of processor, which its keys then name.",
      ],
      "resources": SchemaParts.resources,
      "inputs": ports(["whole": ["type": "boolean"], "optional": ["type": "boolean"]]),
      "outputs": ports([:]),
      "params": parameters(affects: true),
    ]
  }

  private static var native: JSON { .object(kind(single, needs: ["version", "per"])) }

  private static var command: JSON {
    var own = single
    own["command"] = .bool(true)
    own["shell"] = ["type": "boolean"]
    own["sandbox"] = [
      "type": "boolean",
      "description": "Whether the kernel keeps it to its inputs, outputs and the system's folders.",
    ]
    own["reads"] = .object([
      "type": "array", "items": SchemaParts.text, "description": "Folders that it may read beside those.",
    ])
    own["env"] = .object(["type": ["object", "null"], "additionalProperties": SchemaParts.text])
    var result = kind(own, needs: ["version", "per", "command"])
    result["if"] = ["properties": ["shell": ["const": true]], "required": ["shell"]]
    result["then"] = ["properties": ["command": ["type": ["string", "number", "boolean"], "minLength": 1]]]
    result["else"] = .object([
      "properties": .object([
        "command": .object([
          "type": "array", "items": SchemaParts.text, "contains": ["not": ["enum": ["", .null]]],
          "description":
            "The program and its arguments, with {in.PORT/*}, {out.PORT}, {params.NAME}, {threads}.",
        ])
      ])
    ])
    return .object(result)
  }

  private static func pipeline(_ stages: [StageDeclaration]) -> JSON {
    let from: JSON = .object([
      "allOf": [["$ref": "#/definitions/references"]], "description": "STAGE.OUTPUT of a stage within.",
    ])
    return .object(
      kind(
        [
          "inputs": ports(["optional": ["type": "boolean"]]),
          "outputs": ports(["from": from], needs: ["from"]),
          "params": parameters(affects: false),
          "stages": .object([
            "allOf": .array([PipelineSchema.wired(stages), PipelineSchema.complete(stages)])
          ]),
        ], needs: ["stages"]))
  }

  private static func ports(_ own: [String: JSON], needs: [String] = []) -> JSON {
    let types = JSON.array(ArtifactType.allCases.map { .string($0.rawValue) })
    let common: [String: JSON] = ["type": .object(["enum": types]), "doc": SchemaParts.text]
    return .object([
      "type": ["object", "null"], "propertyNames": SchemaParts.names,
      "additionalProperties": .object([
        "type": "object", "additionalProperties": false,
        "required": .array((["type"] + needs).map { .string($0) }),
        "properties": .object(common.merging(own) { $1 }),
      ]),
    ])
  }

  private static func parameters(affects: Bool) -> JSON {
    let kinds: [(names: [String], keys: [String: JSON], value: (String) -> JSON)] = [
      (["bool"], [:], { _ in SchemaParts.value(.bool) }),
      (["string"], [:], { _ in SchemaParts.value(.string) }),
      (["strings"], [:], { _ in SchemaParts.value(.strings) }),
      (
        ["int"],
        [
          "min": ["type": "integer"], "max": ["type": "integer"],
          "divides": SchemaParts.described(SchemaParts.text, "Another whole number that it must divide."),
        ], { _ in SchemaParts.value(.int(min: nil, max: nil)) }
      ),
      (
        ["ints"], ["min": ["type": "integer"], "max": ["type": "integer"]],
        { _ in SchemaParts.value(.ints(min: nil, max: nil)) }
      ),
      (
        ["float"], ["min": ["type": "number"], "max": ["type": "number"]],
        { _ in SchemaParts.value(.float(min: nil, max: nil)) }
      ),
      (
        ["floats"],
        [
          "min": ["type": "number"], "max": ["type": "number"],
          "each": SchemaParts.described(
            SchemaParts.text, "An input: a number for each of what is bound to it, or none."),
        ], { _ in SchemaParts.value(.floats(min: nil, max: nil)) }
      ),
      (
        ["choice"],
        ["choices": .object(["type": "array", "minItems": 1, "items": SchemaParts.text])],
        { _ in ["type": "string"] }
      ),
      (
        ["file"],
        [
          "search": .object(["type": "array", "items": SchemaParts.text]), "package": SchemaParts.text,
          "optional": ["type": "boolean"],
        ],
        { _ in ["type": "string"] }
      ),
    ]
    var common: [String: JSON] = ["unit": SchemaParts.text, "doc": SchemaParts.text]
    if affects { common["affects"] = ["enum": ["result", "nothing"]] }
    var cases: [JSON] = []
    for (names, keys, value) in kinds {
      for name in names {
        var own: [String: JSON] = common.merging(keys) { $1 }
        own["type"] = .object(["const": .string(name)])
        own["default"] = .object(["anyOf": [value(name), ["type": "null"]]])
        cases.append(
          .object([
            "if": .object(["properties": .object(["type": .object(["const": .string(name)])])]),
            "then": .object([
              "additionalProperties": false, "properties": .object(own),
              "required": .array((name == "choice" ? ["type", "choices"] : ["type"]).map { .string($0) }),
            ]),
          ]))
      }
    }
    let all = JSON.array(kinds.flatMap { $0.names.map { .string($0) } })
    return .object([
      "type": ["object", "null"], "propertyNames": SchemaParts.names,
      "additionalProperties": .object([
        "type": "object", "required": ["type"], "properties": .object(["type": .object(["enum": all])]),
        "allOf": .array(cases),
      ]),
    ])
  }
}
