import FlowCore

/// `extends`: a document laid over another one.
enum Merging {
  /// `over` laid over `base`: mappings are merged member by member, all else is replaced; a member `~` takes the base's
  /// away. Every value keeps its own place.
  static func merge(_ base: DocumentNode, _ over: DocumentNode) -> DocumentNode {
    guard let old = base.members, let new = over.members else { return over }
    var result = old
    for member in new {
      if let index = result.firstIndex(where: { $0.name == member.name }) {
        if member.value.json == .null {
          result.remove(at: index)
        } else {
          result[index] = DocumentNode.Member(
            key: member.key, value: merge(result[index].value, member.value))
        }
      } else {
        result.append(member)
      }
    }
    return DocumentNode(content: .mapping(result), place: over.place)
  }

  /// `root` laid over all that it extends, which `load` reads.
  static func extended(
    _ root: DocumentNode, file: String, chain: [String], _ reader: inout DocumentReader,
    load: (String) throws -> String
  ) throws -> DocumentNode {
    guard let node = root["extends"] else { return root }
    var own = root
    own.content = .mapping((root.members ?? []).filter { $0.name != "extends" })
    let names = node.elements ?? [node]
    var base: DocumentNode?
    for name in names {
      guard let text = reader.text(name, "'extends'") else { continue }
      let folder = file.lastIndex(of: "/").map { String(file[...$0]) } ?? ""
      let path = text.hasPrefix("/") ? text : folder + text
      if chain.contains(path) || chain.count > 16 {
        reader.fail("E024", "'extends' goes in a circle: \((chain + [path]).joined(separator: " -> "))", name)
        continue
      }
      let content: String
      do { content = try load(path) } catch let error as Diagnostics {
        reader.fail(
          "E005", "'extends': \(error.all.first?.message ?? "can't be read")", name,
          label: error.all.first?.help)
        continue
      }
      let document = Document(file: path, text: content, parsed: reader.parsed)
      reader.add(document)
      guard let found = document.root else { continue }
      let whole = try extended(found, file: path, chain: chain + [path], &reader, load: load)
      base = base.map { merge($0, whole) } ?? whole
    }
    return base.map { merge($0, own) } ?? own
  }
}
