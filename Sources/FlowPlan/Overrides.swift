import FlowCore

extension Resolver {
  /// Applies one `--set PATH=VALUE` to the tree; its values have no place.
  mutating func apply(_ override: String, _ root: inout DocumentNode) {
    func wrong(_ message: String, _ label: String) {
      reader.problems.append(
        Diagnostic(
          code: "E017", message,
          at: SourceLocation(file: "--set", line: 1, column: 1, length: override.count),
          sourceLine: override, label: label))
    }
    guard let equals = override.firstIndex(of: "=") else {
      return wrong("--set needs PATH=VALUE, such as stages.f0.with.fmax=900", "no '='")
    }
    let path = override[..<equals].split(separator: ".").map(String.init)
    let text = String(override[override.index(after: equals)...])
    guard let top = path.first, path.count >= 2 || ["name"].contains(top),
      ["name", "params", "sources", "stages", "limits"].contains(top)
    else {
      return wrong("--set can't reach '\(override[..<equals])'", "begin with params., sources. or stages.")
    }
    if path.count >= 2, top != "limits", let known = root[top]?.members,
      !known.contains(where: { $0.name == path[1] })
    {
      return wrong(
        "there is no '\(path[1])' in \(top)", DidYouMean.hint(path[1], among: known.map(\.name), what: "name")
      )
    }
    let parsed = Document(file: "--set", text: text).root ?? DocumentNode(content: .scalar(text, plain: true))
    root = Resolver.setting(root, path[...], Resolver.unplaced(parsed))
  }

  private static func unplaced(_ node: DocumentNode) -> DocumentNode {
    switch node.content {
    case .scalar: DocumentNode(content: node.content)
    case .sequence(let elements): DocumentNode(content: .sequence(elements.map(unplaced)))
    case .mapping(let members):
      DocumentNode(
        content: .mapping(
          members.map { DocumentNode.Member(key: unplaced($0.key), value: unplaced($0.value)) }))
    }
  }

  private static func setting(_ node: DocumentNode, _ path: ArraySlice<String>, _ value: DocumentNode)
    -> DocumentNode
  {
    guard let head = path.first else { return value }
    var members = node.members ?? []
    if let index = members.firstIndex(where: { $0.name == head }) {
      members[index].value = setting(members[index].value, path.dropFirst(), value)
    } else {
      let key = DocumentNode(content: .scalar(head, plain: true))
      let empty = DocumentNode(content: .mapping([]))
      members.append(DocumentNode.Member(key: key, value: setting(empty, path.dropFirst(), value)))
    }
    return DocumentNode(content: .mapping(members), place: node.place)
  }
}
