import FlowCore
import FlowStageKit

/// The `params` of a declared stage.
extension StageCatalog {
  /// The declared `params`.
  static func parameters(
    _ reader: inout DocumentReader, _ node: DocumentNode?, isPipeline: Bool
  ) -> [ParameterDeclaration] {
    var result: [ParameterDeclaration] = []
    // What a parameter of a pipeline stage affects is said by the stages that get it.
    let keys =
      [
        "type", "default", "min", "max", "unit", "doc", "choices", "search", "package", "optional", "divides",
        "each",
      ]
      + (isPipeline ? [] : ["affects"])
    for (name, keyNode, value) in reader.members(node, of: "params", allowed: nil) {
      reader.checkName(name, "a parameter", keyNode)
      var fields: [String: DocumentNode] = [:]
      for (key, _, field) in reader.members(value, of: "parameter '\(name)'", allowed: keys) {
        fields[key] = field
      }
      let before = reader.problems.count
      let type = fields["type"]?.text ?? ""
      let (low, high) = (reader.number(fields["min"], "'min'"), reader.number(fields["max"], "'max'"))
      let (search, choices) = (
        reader.strings(fields["search"], "'search'"), reader.strings(fields["choices"], "'choices'")
      )
      let unit = reader.text(fields["unit"], "'unit'") ?? ""
      let doc = reader.text(fields["doc"], "'doc'") ?? ""
      let affects = reader.text(fields["affects"], "'affects'") ?? "result"
      if !["result", "nothing"].contains(affects) {
        reader.fail(
          "E014", "'affects' can't be '\(affects)'", fields["affects"],
          label: DidYouMean.hint(affects, among: ["result", "nothing"], what: "value"))
      }
      if let low, let high, low > high {
        reader.fail("E014", "'min' of '\(name)' is larger than its 'max'", fields["min"])
      }
      let whole = type == "int" || type == "ints"
      func integer(_ key: String, _ bound: Double?) -> Int? {
        guard whole, let bound else { return nil }
        if let value = Int(exactly: bound) { return value }
        reader.fail("E014", "'\(key)' of '\(name)' must be a whole number of 64 bits", fields[key])
        return nil
      }
      for (key, types) in [
        ("min", ["int", "float", "ints", "floats"]), ("max", ["int", "float", "ints", "floats"]),
        ("choices", ["choice"]), ("search", ["file"]), ("package", ["file"]), ("optional", ["file"]),
        ("divides", ["int"]), ("each", ["floats"]),
      ] where fields[key] != nil && !types.contains(type) {
        reader.fail(
          "E014", "'\(key)' is not for parameters of type '\(type)'", fields[key],
          label: "for \(types.joined(separator: ", "))")
      }
      let (least, most) = (integer("min", low), integer("max", high))
      if type == "choice", choices.isEmpty, reader.problems.count == before {
        reader.fail("E015", "parameter '\(name)' needs 'choices'", value)
      }
      let kinds: [String: ParameterDeclaration.Kind] = [
        "bool": .bool, "int": .int(min: least, max: most), "float": .float(min: low, max: high),
        "string": .string, "choice": .choice(choices), "ints": .ints(min: least, max: most),
        "floats": .floats(min: low, max: high), "strings": .strings,
        "file": .file(search: search, package: reader.text(fields["package"], "'package'")),
      ]
      guard let kind = kinds[type] else {
        reader.fail(
          "E014", "parameter '\(name)' can't have the type '\(type)'", fields["type"] ?? value,
          label: DidYouMean.hint(type, among: kinds.keys, what: "type"))
        continue
      }
      var declaration = ParameterDeclaration(
        name: name, kind: kind, standard: nil, unit: unit, doc: doc, affectsResult: affects == "result")
      declaration.location = reader.location(fields["default"] ?? value)
      declaration.divides = reader.text(fields["divides"], "'divides'")
      declaration.each = reader.text(fields["each"], "'each'")
      if let node = fields["optional"] { declaration.isOptional = reader.flag(node, "'optional'") }
      if case .file = kind { declaration.standard = .null }
      if let node = fields["default"] {
        let raw = node.json
        if raw == .null {
          declaration.standard = .null
        } else {
          switch Values.typed(raw, declaration) {
          case .success(let value): declaration.standard = value
          case .failure(let wrong): reader.fail("E014", "the default of '\(name)' \(wrong.text)", node)
          }
        }
      }
      result.append(declaration)
    }
    checkDivisors(&reader, result, node)
    return result
  }
}
