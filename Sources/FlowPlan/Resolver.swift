import FlowCore
import FlowStageKit

/// Makes plans of pipeline texts: names and types resolved, defaults filled in, every mistake found. Pure but for the
/// files that `extends` names, which are read through `load`.
public struct Resolver {
  var reader: DocumentReader
  let catalog: StageCatalog
  /// What may be referred to where the text is being read.
  var scope = Scope()
  /// Pipeline stages stay as they are: to check a declaration, those that it uses are checked on their own.
  var isShallow = false
  /// How many there are of each token; `nil` where no pipeline says so.
  var limits: Limits?
  /// Too much is asked for: nothing more is expanded.
  var isTooMuch = false
  /// Every value and its place, where somebody asks.
  var noted: [Setting]?
  /// How many stages there are so far, expanded.
  var stageCount = 0

  /// The plan of a pipeline.
  /// - Parameters:
  ///   - file: its path, as the user named it.
  ///   - text: its text.
  ///   - overrides: `--set` assignments, `a.b.c=value`.
  ///   - parsed: trees of texts from earlier starts.
  ///   - load: reads a file that the pipeline extends.
  /// - Throws: `Diagnostics` with every mistake, in the order of the text, at most 20.
  public static func plan(
    file: String, text: String, catalog: StageCatalog, overrides: [String] = [],
    parsed: ParsedTexts? = nil, load: (String) throws -> String = FileText.document
  ) throws -> Plan {
    var resolver = Resolver(
      reader: DocumentReader(file: file, text: text, parsed: parsed), catalog: catalog)
    let plan = try resolver.resolve(overrides, load)
    if let plan, resolver.reader.problems.isEmpty { return plan }
    let sorted = resolver.reader.problems.enumerated().sorted {
      ($0.element.location?.line ?? 0, $0.element.location?.column ?? 0, $0.offset)
        < ($1.element.location?.line ?? 0, $1.element.location?.column ?? 0, $1.offset)
    }
    throw Diagnostics(sorted.prefix(20).map(\.element))
  }

  /// Reads the file and makes its plan.
  /// - Throws: `Diagnostics`.
  public static func load(_ file: String, catalog: StageCatalog, overrides: [String] = []) throws -> Plan {
    try plan(
      file: file, text: try FileText.document(file), catalog: catalog,
      overrides: overrides)
  }

  mutating func resolve(_ overrides: [String], _ load: (String) throws -> String) throws -> Plan? {
    guard let own = reader.root else { return nil }
    var root = try Merging.extended(own, file: reader.file, chain: [reader.file], &reader, load: load)
    for override in overrides { apply(override, &root) }
    var parts: [String: DocumentNode] = [:]
    for (key, _, value) in reader.members(
      root, of: "a pipeline",
      allowed: ["flow", "name", "params", "sources", "stages", "outputs", "limits", "licenses"])
    { parts[key] = value }
    if parts["flow"].flatMap({ DocumentReader.whole($0.json) }) != 1 {
      reader.fail(
        "E016", "a pipeline begins with 'flow: 1'", parts["flow"] ?? root,
        label: "the version of its language")
    }
    for (key, _, value) in reader.members(parts["params"], of: "params", allowed: nil) {
      scope.params[key] = value.json
    }
    let sources = self.sources(parts["sources"])
    for source in sources { scope.inputs[source.name] = Scope.Input(references: [.source(source.name)]) }
    limits = Values.limits(&reader, parts["limits"])
    let group = group(reader.members(parts["stages"], of: "stages", allowed: nil), scope)
    if parts["stages"] == nil || (group.entries.isEmpty && group.scope.absent.isEmpty) {
      reader.fail("E015", "a pipeline needs 'stages'", parts["stages"] ?? root)
    }
    note(parts)
    let stages = planned(group)
    scope = group.scope
    let results = self.results(parts["outputs"])
    guard let ordered = ordered(stages) else { return nil }
    let last = reader.file.split(separator: "/").last ?? ""
    let name =
      reader.text(parts["name"], "'name'") ?? last.split(separator: ".").first.map(String.init) ?? "pipeline"
    reader.checkName(name, "a pipeline", parts["name"])
    var plan = Plan(
      name: name, file: reader.file,
      sources: sources.sorted { $0.name < $1.name },
      stages: ordered, results: results.sorted { $0.name < $1.name }, limits: limits ?? Limits())
    plan.licenses = licenses(parts["licenses"])
    return plan
  }

  private mutating func sources(_ node: DocumentNode?) -> [PlannedSource] {
    var result: [PlannedSource] = []
    for (name, keyNode, value) in reader.members(node, of: "sources", allowed: nil) {
      reader.checkName(name, "a source", keyNode)
      var source = PlannedSource(name: name, path: "", location: reader.location(keyNode))
      var said: [String: DocumentNode] = [:]
      for (key, _, field) in reader.members(
        value, of: "source '\(name)'", allowed: ["path", "manifest", "glob", "exclude", "license", "author"])
      {
        said[key] = field
        if ["glob", "exclude", "author"].contains(key) {
          let texts = field.text.map { [$0] } ?? reader.strings(field, "'\(key)'")
          switch key {
          case "glob": source.include = texts
          case "exclude": source.exclude = texts
          default: source.authors = texts
          }
          continue
        }
        guard let raw = substituted(field).text else {
          reader.fail("E014", "'\(key)' must be text", field)
          continue
        }
        if key == "license" {
          source.license = license(raw, field)
          continue
        }
        // A path is of the folder of the file that says it; one given by --set is of the working folder.
        let file = field.place?.file
        let folder =
          file.flatMap { $0.lastIndex(of: "/").map { $0 } }.map { file.map { $0 }?[..<$0] ?? "" } ?? "."
        source.path = raw.hasPrefix("/") || file == nil ? raw : folder + "/" + raw
        source.isManifest = key == "manifest"
        source.location = reader.location(field)
      }
      // What a file says of its own songs holds for no others, which --set or a file that extends it names.
      func isOfAnother(_ key: String) -> Bool {
        guard let place = said[key]?.place else { return false }
        return place.file != (said["path"] ?? said["manifest"])?.place?.file
      }
      if isOfAnother("license") { source.license = nil }
      if isOfAnother("author") { source.authors = [] }
      if let manifest = said["manifest"], said["path"] != nil {
        reader.fail("E014", "source '\(name)' has both 'path' and 'manifest'", manifest, help: "keep one")
      }
      if source.path.isEmpty { reader.fail("E015", "source '\(name)' needs 'path'", keyNode) }
      result.append(source)
    }
    return result
  }

  private mutating func results(_ node: DocumentNode?) -> [PlannedResult] {
    var results: [PlannedResult] = []
    for (name, keyNode, value) in reader.members(node, of: "outputs", allowed: nil) {
      reader.checkName(name, "an output", keyNode)
      if value.json == .null { continue }
      let references = self.references(value, nil, takesInputs: false).map(\.reference)
      if !references.isEmpty { results.append(PlannedResult(name: name, references: references)) }
    }
    return results
  }

  /// The stages so that each comes after those it takes from; `nil` and a diagnostic when they go in a circle.
  mutating func ordered(_ stages: [PlannedStage]) -> [PlannedStage]? {
    var index: [String: Int] = [:]
    for (i, stage) in stages.enumerated() { index[stage.name] = i }
    let needs = stages.map { stage in Set(stage.upstream.compactMap { index[$0] }) }
    var missing = needs.map(\.count)
    var dependents = [[Int]](repeating: [], count: stages.count)
    for (i, set) in needs.enumerated() { for need in set { dependents[need].append(i) } }
    // Among those that are ready, the first in the text comes first.
    var ready = Heap(stages.indices.filter { missing[$0] == 0 })
    var order: [Int] = []
    while let next = ready.pop() {
      order.append(next)
      for dependent in dependents[next] {
        missing[dependent] -= 1
        if missing[dependent] == 0 { ready.push(dependent) }
      }
    }
    if order.count == stages.count { return order.map { stages[$0] } }
    let done = Set(order)
    var loop = [stages.indices.first { !done.contains($0) } ?? 0]
    while let next = needs[loop[loop.count - 1]].filter({ !done.contains($0) }).min() {
      let closed = loop.contains(next)
      loop.append(next)
      if closed { break }
    }
    let start = loop.firstIndex(of: loop[loop.count - 1]) ?? 0
    let names = loop[start...].map { stages[$0].name }
    reader.fail(
      "E024", "the stages take from each other in a circle: \(names.joined(separator: " <- "))",
      at: stages.first { $0.name == names[0] }?.location)
    return nil
  }
}

/// A binary heap whose least element comes first.
private struct Heap {
  private var values: [Int] = []

  init(_ values: [Int]) { for value in values { push(value) } }

  mutating func push(_ value: Int) {
    values.append(value)
    var i = values.count - 1
    while i > 0, values[i] < values[(i - 1) / 2] {
      values.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func pop() -> Int? {
    guard let first = values.first else { return nil }
    values.swapAt(0, values.count - 1)
    values.removeLast()
    var i = 0
    while true {
      let least = [2 * i + 1, 2 * i + 2].filter { $0 < values.count }.min { values[$0] < values[$1] }
      guard let least, values[least] < values[i] else { return first }
      values.swapAt(i, least)
      i = least
    }
  }
}
