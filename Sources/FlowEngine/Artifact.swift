import FlowCore
import FlowStageKit
import FlowStore
import Synchronization

/// The items of a port. Their tree is known; the items themselves are made when somebody asks, which a run in which
/// nothing changed never does.
final class Artifact: Sendable {
  let tree: Tree
  private let made: Mutex<[Item]?>
  private let recipe: @Sendable () -> [Item]

  init(_ items: [Item]) {
    let sorted = items.sorted { $0.id < $1.id }
    tree = Tree(sorted)
    made = Mutex(sorted)
    recipe = { [] }
  }

  init(tree: Tree, _ recipe: @escaping @Sendable () -> [Item]) {
    self.tree = tree
    made = Mutex(nil)
    self.recipe = recipe
  }

  /// The items, sorted by id.
  var items: [Item] {
    made.withLock { made in
      if let made { return made }
      let items = recipe().sorted { $0.id < $1.id }
      made = items
      return items
    }
  }

  /// Several as one: where two have an item of one id, the first wins; a label comes before the ids of its part.
  /// - Parameter numbered: gives each item the number of its part as an attribute.
  static func union(_ parts: [(artifact: Artifact, label: String?)], numbered: Bool = false) -> Artifact {
    if numbered {
      return union(
        parts.enumerated().map { index, part in
          let items = part.artifact.items.map { item in
            var item = item
            item.attributes[StageDeclaration.part] = .int(index)
            return item
          }
          return (Artifact(items), part.label)
        })
    }
    if parts.count == 1, parts[0].label == nil { return parts[0].artifact }
    let filled = parts.filter { $0.artifact.tree.count > 0 }
    if filled.count == 1, filled[0].label == nil { return filled[0].artifact }
    var items: [String: Item] = [:]
    for (artifact, label) in filled {
      for var item in artifact.items {
        if let label { item.id = "\(label)/\(item.id)" }
        if items[item.id] == nil { items[item.id] = item }
      }
    }
    return Artifact(Array(items.values))
  }
}

/// The units of a stage's manifest, read when somebody asks.
final class Units: Sendable {
  private let read: Mutex<[UnitEntry]?>
  private let recipe: @Sendable () -> [UnitEntry]

  init(_ entries: [UnitEntry]) {
    read = Mutex(entries)
    recipe = { [] }
  }

  init(_ recipe: @escaping @Sendable () -> [UnitEntry]) {
    read = Mutex(nil)
    self.recipe = recipe
  }

  var entries: [UnitEntry] {
    read.withLock { read in
      if let read { return read }
      let entries = recipe()
      read = entries
      return entries
    }
  }

  /// The items of the output `port`, named.
  func items(_ port: String, perItem: Bool) -> [Item] {
    entries.flatMap { unit in
      (unit.outputs[port] ?? []).map { emitted in
        var item = emitted
        if perItem { item.id = unit.item + emitted.id }
        return item
      }
    }
  }
}
