import FlowCore
import FlowStageKit
import Foundation

/// One combination of a matrix: the value of each of its keys, in the order of the text.
struct MatrixCell: Sendable, Hashable {
  var values: [(key: String, value: JSON)]

  /// `seed=1,rate=0.1`.
  var label: String {
    values.map { "\($0.key)=\($0.value.text ?? $0.value.canonical)" }.joined(separator: ",")
  }

  static func == (a: MatrixCell, b: MatrixCell) -> Bool { a.label == b.label }
  func hash(into hasher: inout Hasher) { hasher.combine(label) }
}

/// A stage of the text, or one cell of its matrix.
struct StageEntry: Sendable {
  /// Its name in the plan: `train`, or `train[seed=1]`.
  var name: String
  /// Its name in the text.
  var base: String
  var keyNode: DocumentNode
  var node: DocumentNode
  var cell: MatrixCell?
  /// Whether it is the first (or only) cell: mistakes are said for it alone.
  var isFirst = true
}

extension Resolver {
  private static let maxCells = 1000

  /// The stages of the text, each cell of a matrix on its own, without those that `when` leaves out.
  mutating func expanded(_ entries: [(key: String, keyNode: DocumentNode, value: DocumentNode)])
    -> [StageEntry]
  {
    var result: [StageEntry] = []
    result.reserveCapacity(entries.count)
    for (name, keyNode, node) in entries {
      reader.checkName(name, "a stage", keyNode)
      if let condition = node["when"] {
        let before = reader.problems.count
        let value = substituted(condition)
        if let holds = Values.condition(value) {
          if !holds {
            scope.absent.insert(name)
            continue
          }
        } else if reader.problems.count == before {
          reader.fail(
            "E014", "'when' must be true, false, 'A == B' or 'A != B'; got \(value.canonical)", condition)
        }
      }
      guard let matrix = node["matrix"] else {
        result.append(StageEntry(name: name, base: name, keyNode: keyNode, node: node))
        continue
      }
      let cells = self.matrix(matrix, name)
      scope.cells[name] = cells
      for (i, cell) in cells.enumerated() {
        result.append(
          StageEntry(
            name: "\(name)[\(cell.label)]", base: name, keyNode: keyNode, node: node, cell: cell,
            isFirst: i == 0))
      }
    }
    return result
  }

  private mutating func matrix(_ node: DocumentNode, _ name: String) -> [MatrixCell] {
    var cells = [MatrixCell(values: [])]
    for (key, keyNode, value) in reader.members(node, of: "'matrix' of stage '\(name)'", allowed: nil) {
      reader.checkName(key, "a key of a matrix", keyNode)
      let values = substituted(value)
      guard case .array(let choices) = values, !choices.isEmpty, choices.allSatisfy(Resolver.isScalar) else {
        reader.fail("E014", "'\(key)' of a matrix must be a list of values", value, help: "\(key): [1, 2, 3]")
        continue
      }
      cells = cells.flatMap { cell in choices.map { MatrixCell(values: cell.values + [(key, $0)]) } }
      guard cells.count <= Resolver.maxCells else {
        reader.fail("E018", "the matrix of '\(name)' has more than \(Resolver.maxCells) cells", keyNode)
        return []
      }
    }
    if Set(cells).count < cells.count {
      reader.fail("E014", "a value occurs twice in the matrix of '\(name)'", node)
    }
    return cells
  }

  private static func isScalar(_ value: JSON) -> Bool {
    switch value {
    case .array, .object, .null: false
    case .string(let text):
      !text.isEmpty && text.allSatisfy { $0.isLetter || $0.isNumber || "._-+".contains($0) }
    default: true
    }
  }

  /// A node's value with `${params.x}` and `${matrix.x}` put in: alone a reference keeps its type, within text it is
  /// interpolated.
  mutating func substituted(_ node: DocumentNode, _ cell: MatrixCell? = nil) -> JSON {
    guard let text = node.text else {
      if let elements = node.elements { return .array(elements.map { substituted($0, cell) }) }
      return node.json
    }
    // Looking for a text costs much more than looking for a byte, and few have one.
    guard text.utf8.contains(UInt8(ascii: "$")), text.contains("${") else { return node.json }
    var (result, rest) = ("", text[...])
    while let start = rest.range(of: "${") {
      guard let end = rest[start.upperBound...].firstIndex(of: "}") else {
        reader.fail("E025", "a '${' without its '}'", node)
        return .null
      }
      let name = rest[start.upperBound..<end]
      let value = lookup(name, node, cell)
      let after = rest.index(after: end)
      if start.lowerBound == text.startIndex, after == text.endIndex { return value ?? .null }
      result += rest[..<start.lowerBound] + (value.map { $0.text ?? $0.canonical } ?? "")
      rest = rest[after...]
    }
    return .string(result + rest)
  }

  private mutating func lookup(_ name: Substring, _ node: DocumentNode, _ cell: MatrixCell?) -> JSON? {
    if name.hasPrefix("params.") {
      let key = String(name.dropFirst(7))
      if let value = scope.params[key] { return value }
      reader.fail(
        "E025",
        scope.isInner ? "this stage has no parameter '\(key)'" : "there is no parameter '\(key)' in params",
        node,
        label: DidYouMean.hint(key, among: scope.params.keys, what: "parameter"))
    } else if name.hasPrefix("matrix.") {
      let key = String(name.dropFirst(7))
      if let value = cell?.values.first(where: { $0.key == key })?.value { return value }
      reader.fail(
        "E025", cell == nil ? "this stage has no matrix" : "its matrix has no '\(key)'", node,
        label: DidYouMean.hint(key, among: cell?.values.map(\.key) ?? [], what: "key"))
    } else {
      reader.fail("E025", "'${\(name)}' is not known", node, label: "write ${params.NAME} or ${matrix.NAME}")
    }
    return nil
  }
}
