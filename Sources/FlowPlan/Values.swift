import FlowCore
import FlowStageKit
import Foundation

/// Values as parameters, resources and conditions take them.
enum Values {
  struct Wrong: Error {
    let text: String
    var range = false
  }

  /// `raw` as the parameter's type.
  static func typed(_ raw: JSON, _ parameter: ParameterDeclaration) -> Result<JSON, Wrong> {
    func bounded<T: Comparable>(_ value: T, _ low: T?, _ high: T?, _ json: JSON) -> Result<JSON, Wrong> {
      let bounds =
        "must be \(low.map { "at least \($0)" } ?? "")\(low != nil && high != nil ? " and " : "")\(high.map { "at most \($0)" } ?? "")"
      if let low, value < low { return .failure(Wrong(text: "is \(value), and \(bounds)", range: true)) }
      if let high, value > high { return .failure(Wrong(text: "is \(value), and \(bounds)", range: true)) }
      return .success(json)
    }
    func mismatch(_ wanted: String) -> Result<JSON, Wrong> {
      var text = "must be \(wanted); got \(raw.canonical)"
      if case .string(let value) = raw {
        if ["yes", "no", "on", "off"].contains(value.lowercased()) {
          text += ", which is text: write true or false"
        }
        let isDigits = value.allSatisfy { $0.isASCII && $0.isNumber || $0 == ":" }
        if isDigits, value.contains(":") {
          text += ", which is not a number here: write it out"
        }
        if isDigits, value.hasPrefix("0"), !value.contains(":") { text += ": drop the leading zero" }
      }
      return .failure(Wrong(text: text))
    }
    func list(_ wanted: String, _ kind: ParameterDeclaration.Kind) -> Result<JSON, Wrong> {
      guard case .array(let values) = raw else { return mismatch(wanted) }
      var result: [JSON] = []
      for value in values {
        var element = parameter
        element.kind = kind
        switch typed(value, element) {
        case .success(let json): result.append(json)
        case .failure(let wrong): return .failure(wrong)
        }
      }
      return .success(.array(result))
    }
    switch (parameter.kind, raw) {
    case (.bool, .bool): return .success(raw)
    case (.bool, _): return mismatch("true or false")
    case (.int(let low, let high), _):
      guard let value = DocumentReader.whole(raw) else { return mismatch("a whole number") }
      return bounded(value, low, high, .int(value))
    case (.float(let low, let high), .int(let value)):
      return bounded(Double(value), low, high, .double(Double(value)))
    case (.float(let low, let high), .double(let value)): return bounded(value, low, high, raw)
    case (.float, _): return mismatch("a number")
    case (.string, .string), (.file, .string): return .success(raw)
    case (.string, .int), (.string, .double), (.string, .bool): return .success(.string(raw.canonical))
    case (.string, _): return mismatch("text")
    case (.file, _): return mismatch("a path")
    case (.choice(let choices), .string(let value)):
      if choices.contains(value) { return .success(raw) }
      return .failure(
        Wrong(text: "can't be '\(value)': \(DidYouMean.hint(value, among: choices, what: "value"))"))
    case (.choice(let choices), _): return mismatch("one of \(choices.joined(separator: ", "))")
    case (.ints(let low, let high), _): return list("a list of whole numbers", .int(min: low, max: high))
    case (.floats(let low, let high), _): return list("a list of numbers", .float(min: low, max: high))
    case (.strings, _): return list("a list of texts", .string)
    }
  }

  /// `{ cpu: 2, memory: 512MiB, gpu: 1, tokens: { disk: 1 } }`.
  static func resources(_ reader: inout DocumentReader, _ node: DocumentNode?, standard: Resources)
    -> Resources
  {
    var result = standard
    func count(_ value: DocumentNode, _ what: String, _ reader: inout DocumentReader) -> Int? {
      if let count = DocumentReader.whole(value.json), (0...1_000_000).contains(count) { return count }
      reader.fail("E014", "\(what) must be a whole number from 0", value)
      return nil
    }
    for (key, _, value) in reader.members(
      node, of: "resources", allowed: ["cpu", "memory", "gpu", "tokens"],
      elsewhere: { $0 == StageDeclaration.ranks ? "under 'with'" : nil })
    {
      switch key {
      case "cpu": result.cpu = count(value, "'cpu' (0 is all of the run's)", &reader) ?? result.cpu
      case "gpu": result.gpu = count(value, "'gpu'", &reader) ?? result.gpu
      case "memory": result.memory = memory(&reader, value) ?? result.memory
      default:
        for (name, keyNode, value) in reader.members(value, of: "tokens", allowed: nil) {
          reader.checkName(name, "a token", keyNode)
          result.tokens[name] = count(value, "'\(name)'", &reader)
        }
      }
    }
    return result
  }

  /// `{ disk: 2, memory: 8GiB }`.
  static func limits(_ reader: inout DocumentReader, _ node: DocumentNode?) -> Limits {
    var limits = Limits()
    for (name, keyNode, value) in reader.members(node, of: "limits", allowed: nil) {
      reader.checkName(name, "a token", keyNode)
      if name == "memory" {
        limits.memory = memory(&reader, value)
      } else if name == "cpu" || name == "gpu" {
        reader.fail(
          "E011", "'\(name)' is no limit of a pipeline's", keyNode,
          label: name == "cpu" ? "say it with -j" : "say it with --gpus")
      } else if let count = DocumentReader.whole(value.json), (1...1_000_000).contains(count) {
        limits.tokens[name] = count
      } else {
        reader.fail("E014", "'\(name)' must be a whole number from 1", value)
      }
    }
    return limits
  }

  private static func memory(_ reader: inout DocumentReader, _ value: DocumentNode) -> Int? {
    guard let (size, overflow) = bytes(value.text ?? "") else {
      reader.fail("E014", "'memory' must be like 512MiB", value)
      return nil
    }
    if overflow { reader.fail("E018", "'memory' is too large", value) }
    return overflow ? nil : size
  }

  private static func bytes(_ text: String) -> (size: Int, overflow: Bool)? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let unit = text.dropFirst(digits.count).drop { $0 == " " }
    guard let shift = ["": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30][String(unit)], !digits.isEmpty else {
      return nil
    }
    guard let size = Int(digits) else { return (0, true) }
    let (value, overflow) = size.multipliedReportingOverflow(by: 1 << shift)
    return (value, overflow)
  }

  /// A condition: `true`, `false`, `A == B`, `A != B`, after references were put in; `nil` for other text.
  static func condition(_ value: JSON) -> Bool? {
    switch value {
    case .bool(let value): return value
    case .string(let text):
      for (sign, wanted) in [(" == ", true), (" != ", false)] {
        guard let range = text.range(of: sign) else { continue }
        let sides = [text[..<range.lowerBound], text[range.upperBound...]].map { side in
          side.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()
        }
        return (Array(sides[0]) == Array(sides[1])) == wanted
      }
      return ["true": true, "false": false][text]
    default: return nil
    }
  }
}
