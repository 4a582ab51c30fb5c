public import FlowCore

/// One action's part of a stage's manifest.
public struct UnitEntry: Sendable, Hashable {
  /// The item's name; empty in a stage over all.
  public var item: String
  /// The digest of what went in, to find the unit again without making its key.
  public var inputs: Digest
  /// The action's key.
  public var key: Digest
  /// Why the item was set aside.
  public var rejected: String?
  /// The items of each output, ids as suffixes in a stage `per: item`.
  public var outputs: [String: [Item]]
  /// Numbers that the action reported.
  public var metrics: [String: Double]

  /// An entry.
  public init(
    item: String, inputs: Digest, key: Digest, rejected: String? = nil, outputs: [String: [Item]] = [:],
    metrics: [String: Double] = [:]
  ) {
    self.item = item
    self.inputs = inputs
    self.key = key
    self.rejected = rejected
    self.outputs = outputs
    self.metrics = metrics
  }
}

/// All items of one port, as one digest and a count.
public struct Tree: Sendable, Hashable {
  /// The digest of names and contents.
  public var digest: Digest
  /// The number of items.
  public var count: Int

  /// A tree.
  public init(digest: Digest, count: Int) {
    self.digest = digest
    self.count = count
  }

  /// The tree of `items`.
  public init(_ items: [Item]) {
    var hasher = SHA256()
    for item in items.sorted(by: { $0.id < $1.id }) {
      hasher.field("item", item.id.utf8)
      for file in item.files {
        hasher.field("file", file.name.utf8)
        hasher.update(file.digest)
      }
      if !item.attributes.isEmpty { hasher.field("attributes", JSON.object(item.attributes).canonical.utf8) }
    }
    self.init(digest: hasher.finish(), count: items.count)
  }
}

/// What a stage came to, compactly: a run in which nothing changed reads these instead of a record per item.
public struct StageManifest: Sendable, Hashable {
  /// The digest of the stage with all its inputs: the same digest, the same results.
  public var digest: Digest
  /// The digest of the stage without its inputs.
  public var template: Digest
  /// Actions in all, and set-aside items with their reasons.
  public var total: Int, quarantined: [QuarantinedItem]
  /// Means of the actions' metrics.
  public var metrics: [String: Double]
  /// What each bound input and each output held.
  public var inputs: [String: Tree], outputs: [String: Tree]
  /// Seconds of work of all actions together.
  public var seconds: Double
  /// The most memory that one action held, bytes; 0 when none ran.
  public var peakMemory: Int
  /// The digest of the units, which lie in a file of their own.
  public var units: Digest

  /// A manifest.
  public init(
    digest: Digest, template: Digest, total: Int, quarantined: [QuarantinedItem], metrics: [String: Double],
    inputs: [String: Tree], outputs: [String: Tree], seconds: Double, peakMemory: Int = 0, units: Digest
  ) {
    self.digest = digest
    self.template = template
    self.total = total
    self.quarantined = quarantined
    self.metrics = metrics
    self.inputs = inputs
    self.outputs = outputs
    self.seconds = seconds
    self.peakMemory = peakMemory
    self.units = units
  }
}

/// The manifests of a pipeline's stages, the latest first: going back to an earlier setting finds the earlier one.
public struct PipelineManifest: Sendable {
  private static let generations = 4
  private static let format = "flow-manifest/2"
  /// By stage.
  public private(set) var stages: [String: [StageManifest]] = [:]
  /// Small units are kept within, so that a thousand stages are one file.
  private var inline: [Digest: [UInt8]] = [:]
  private static let inlineLimit = 2048

  private let store: Store
  private let path: String
  private var changed = false

  /// That of the pipeline `name`.
  public init(_ store: Store, pipeline name: String) {
    self.store = store
    path = "\(store.root)/runs/\(name)"
    guard let bytes = store.readChecked(path + ".manifest") else { return }
    var reader = ByteReader(bytes)
    guard reader.text() == PipelineManifest.format,
      let blobs = reader.list({ $0.blob() }),
      let found = reader.list({ reader -> (String, [StageManifest])? in
        guard let name = reader.text(), let list = reader.list({ $0.stageManifest() }) else { return nil }
        return (name, list)
      })
    else { return }
    for blob in blobs { inline[Digest(of: blob)] = blob }
    stages = Dictionary(found, uniquingKeysWith: { $1 })
  }

  /// The manifest of `stage` with that digest.
  public func find(_ stage: String, _ digest: Digest) -> StageManifest? {
    stages[stage]?.first { $0.digest == digest }
  }

  /// The units of a manifest; `nil` when they are damaged or gone.
  public func units(_ manifest: StageManifest) -> [UnitEntry]? {
    guard let bytes = inline[manifest.units] ?? store.readChecked(unitsPath(manifest.units)),
      Digest(of: bytes) == manifest.units
    else { return nil }
    var reader = ByteReader(bytes)
    return reader.list { $0.unit() }
  }

  /// The bytes of units, and the digest that names them.
  public static func encode(_ units: [UnitEntry]) -> (bytes: [UInt8], digest: Digest) {
    var writer = ByteWriter()
    writer.list(units) { $0.unit($1) }
    return (writer.bytes, Digest(of: writer.bytes))
  }

  private func unitsPath(_ digest: Digest) -> String { "\(path).units/\(digest.hex)" }

  /// Puts a stage's manifest before its older ones.
  /// - Throws: `StoreError`.
  public mutating func put(_ stage: String, _ manifest: StageManifest, units: [UInt8]) throws(StoreError) {
    var list = (stages[stage] ?? []).filter { $0.digest != manifest.digest }
    list.insert(manifest, at: 0)
    if list == stages[stage] { return }
    stages[stage] = Array(list.prefix(PipelineManifest.generations))
    if units.count <= PipelineManifest.inlineLimit {
      inline[manifest.units] = units
    } else {
      try store.publishChecked(units, at: unitsPath(manifest.units))
    }
    changed = true
  }

  /// Writes what changed; stages that are not among `names` are forgotten.
  /// - Throws: `StoreError`.
  public mutating func save(names: Set<String>) throws(StoreError) {
    let gone = Set(stages.keys).subtracting(names)
    guard changed || !gone.isEmpty else { return }
    for name in gone { stages[name] = nil }
    let used = Set(stages.values.flatMap { $0.map(\.units) })
    var writer = ByteWriter()
    writer.text(PipelineManifest.format)
    writer.list(inline.filter { used.contains($0.key) }.sorted { $0.key < $1.key }) { $0.blob($1.value) }
    writer.list(stages.sorted { $0.key < $1.key }) { writer, stage in
      writer.text(stage.key)
      writer.list(stage.value) { $0.stageManifest($1) }
    }
    try store.publishChecked(writer.bytes, at: path + ".manifest")
    store.uncommitted.add([path + ".manifest"])
    store.removeUnused(in: path + ".units", keeping: Set(used.map(\.hex)))
    changed = false
  }
}

extension ByteWriter {
  fileprivate mutating func trees(_ trees: [String: Tree]) {
    list(trees.sorted { $0.key < $1.key }) { writer, entry in
      writer.text(entry.key)
      writer.digest(entry.value.digest)
      writer.number(entry.value.count)
    }
  }

  fileprivate mutating func stageManifest(_ manifest: StageManifest) {
    digest(manifest.digest)
    digest(manifest.template)
    number(manifest.total)
    list(manifest.quarantined) { writer, item in
      writer.text(item.id)
      writer.text(item.reason)
    }
    metrics(manifest.metrics)
    trees(manifest.inputs)
    trees(manifest.outputs)
    double(manifest.seconds)
    number(manifest.peakMemory)
    digest(manifest.units)
  }

  fileprivate mutating func unit(_ unit: UnitEntry) {
    text(unit.item)
    digest(unit.inputs)
    digest(unit.key)
    number(unit.rejected == nil ? 0 : 1)
    if let reason = unit.rejected { text(reason) }
    ports(unit.outputs)
    metrics(unit.metrics)
  }
}

extension ByteReader {
  fileprivate mutating func trees() -> [String: Tree]? {
    list { reader -> (String, Tree)? in
      guard let name = reader.text(), let digest = reader.digest(), let count = reader.number() else {
        return nil
      }
      return (name, Tree(digest: digest, count: count))
    }.map { Dictionary($0, uniquingKeysWith: { $1 }) }
  }

  fileprivate mutating func stageManifest() -> StageManifest? {
    guard let digest = digest(), let template = self.digest(), let total = number(),
      let quarantined = list({ reader -> QuarantinedItem? in
        guard let id = reader.text(), let reason = reader.text() else { return nil }
        return QuarantinedItem(id: id, reason: reason)
      }),
      let metrics = metrics(), let inputs = trees(), let outputs = trees(), let seconds = double(),
      let peakMemory = number(), let units = self.digest()
    else { return nil }
    return StageManifest(
      digest: digest, template: template, total: total, quarantined: quarantined, metrics: metrics,
      inputs: inputs,
      outputs: outputs, seconds: seconds, peakMemory: peakMemory, units: units)
  }

  fileprivate mutating func unit() -> UnitEntry? {
    guard let item = text(), let inputs = digest(), let key = digest(), let isRejected = number() else {
      return nil
    }
    var reason: String?
    if isRejected != 0 {
      guard let text = text() else { return nil }
      reason = text
    }
    guard let outputs = ports(), let metrics = metrics() else { return nil }
    return UnitEntry(
      item: item, inputs: inputs, key: key, rejected: reason, outputs: outputs, metrics: metrics)
  }
}
