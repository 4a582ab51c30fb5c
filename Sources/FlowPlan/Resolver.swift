import FlowCore
import FlowStageKit
import Yams

/// Makes plans of pipeline texts: names and types resolved, defaults filled in, every mistake found. Pure.
public struct Resolver {
  private var reader: YAMLReader
  private let catalog: StageCatalog
  private let folder: String
  private var shared: [String: JSON] = [:]

  /// The plan of a pipeline.
  /// - Parameters:
  ///   - file: its path, as the user named it.
  ///   - text: its text.
  ///   - overrides: `--set` assignments, `a.b.c=value`.
  /// - Throws: `Diagnostics` with every mistake, in the order of the text, at most 20.
  public static func plan(file: String, text: String, catalog: StageCatalog, overrides: [String] = []) throws
    -> Plan
  {
    var resolver = Resolver(file: file, text: text, catalog: catalog)
    let plan = resolver.resolve(overrides)
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
    try plan(file: file, text: try FileText.read(file), catalog: catalog, overrides: overrides)
  }

  private init(file: String, text: String, catalog: StageCatalog) {
    reader = YAMLReader(file: file, text: text)
    self.catalog = catalog
    folder = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "."
  }

  private mutating func resolve(_ overrides: [String]) -> Plan? {
    guard var root = reader.root else { return nil }
    for override in overrides { apply(override, &root) }
    var parts: [String: Node] = [:]
    for (key, _, value) in reader.members(
      root, of: "a pipeline", allowed: ["flow", "name", "params", "sources", "stages", "outputs"])
    { parts[key] = value }
    if parts["flow"].map({ YAMLReader.value($0) }) != .int(1) {
      reader.fail(
        "E016", "a pipeline begins with 'flow: 1'", parts["flow"] ?? root,
        label: "the version of its language")
    }
    for (key, _, value) in reader.members(parts["params"], of: "params", allowed: nil) {
      shared[key] = YAMLReader.value(value)
    }
    let sources = self.sources(parts["sources"])
    let entries = reader.members(parts["stages"], of: "stages", allowed: nil)
    if parts["stages"] == nil || entries.isEmpty {
      reader.fail("E015", "a pipeline needs 'stages'", parts["stages"] ?? root)
    }
    var declarations: [String: StageDeclaration] = [:]
    for (name, keyNode, value) in entries {
      reader.checkName(name, "a stage", keyNode)
      let node = value.mapping?["uses"]
      let uses = node?.scalar?.string ?? name
      if let declaration = catalog[uses] {
        declarations[name] = declaration
      } else {
        reader.fail(
          "E020", "there is no stage '\(uses)'", node ?? keyNode,
          label: DidYouMean.hint(uses, among: catalog.names, what: "stage"), help: "'flow stages' lists all")
      }
    }
    var stages: [PlannedStage] = []
    for (name, keyNode, value) in entries {
      if let stage = self.stage(name, keyNode, value, declarations, Set(sources.map(\.name))) {
        stages.append(stage)
      }
    }
    var results: [PlannedResult] = []
    for (name, keyNode, value) in reader.members(parts["outputs"], of: "outputs", allowed: nil) {
      reader.checkName(name, "an output", keyNode)
      if let reference = reference(value, declarations, []) {
        results.append(PlannedResult(name: name, reference: reference))
      }
    }
    guard let ordered = ordered(stages, entries.map { ($0.key, $0.keyNode) }) else { return nil }
    let last = reader.file.split(separator: "/").last ?? ""
    let name =
      reader.text(parts["name"], "'name'") ?? last.split(separator: ".").first.map(String.init) ?? "pipeline"
    reader.checkName(name, "a pipeline", parts["name"])
    return Plan(
      name: name, file: reader.file,
      sources: sources.sorted { $0.name < $1.name },
      stages: ordered, results: results.sorted { $0.name < $1.name })
  }

  // MARK: --set

  private mutating func apply(_ override: String, _ root: inout Node) {
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
      ["name", "params", "sources", "stages"].contains(top)
    else {
      return wrong("--set can't reach '\(override[..<equals])'", "begin with params., sources. or stages.")
    }
    if path.count >= 2, let known = root.mapping?[top]?.mapping, known[path[1]] == nil {
      let names = known.keys.compactMap { $0.scalar?.string }
      return wrong("there is no '\(path[1])' in \(top)", DidYouMean.hint(path[1], among: names, what: "name"))
    }
    let parsed = (try? Yams.compose(yaml: text)).flatMap { $0 } ?? Node.scalar(Node.Scalar(text))
    root = Resolver.setting(root, path[...], unmarked(parsed))
  }

  private func unmarked(_ node: Node) -> Node {
    switch node {
    case .scalar(let scalar): Node.scalar(Node.Scalar(scalar.string, scalar.tag, scalar.style))
    case .sequence(let sequence): Node.sequence(Node.Sequence(sequence.map(unmarked)))
    case .mapping(let mapping):
      Node.mapping(Node.Mapping(mapping.map { (unmarked($0.key), unmarked($0.value)) }))
    default: node
    }
  }

  private static func setting(_ node: Node, _ path: ArraySlice<String>, _ value: Node) -> Node {
    guard let head = path.first else { return value }
    var mapping = node.mapping ?? Node.Mapping([])
    let key = mapping.keys.first { $0.scalar?.string == head } ?? Node.scalar(Node.Scalar(head))
    mapping[key] = setting(mapping[key] ?? Node.mapping(Node.Mapping([])), path.dropFirst(), value)
    return .mapping(mapping)
  }

  // MARK: Parts

  private mutating func sources(_ node: Node?) -> [PlannedSource] {
    var result: [PlannedSource] = []
    for (name, keyNode, value) in reader.members(node, of: "sources", allowed: nil) {
      reader.checkName(name, "a source", keyNode)
      var source = PlannedSource(name: name, path: "", location: reader.location(keyNode))
      for (key, _, field) in reader.members(value, of: "source '\(name)'", allowed: ["path", "license"]) {
        guard let raw = substituted(field).text else {
          reader.fail("E014", "'\(key)' must be text", field)
          continue
        }
        if key == "license" {
          source.license = raw
        } else {
          source.path = raw.hasPrefix("/") || field.mark == nil ? raw : folder + "/" + raw
          source.location = reader.location(field)
        }
      }
      if source.path.isEmpty { reader.fail("E015", "source '\(name)' needs 'path'", keyNode) }
      result.append(source)
    }
    return result
  }

  private mutating func stage(
    _ name: String, _ keyNode: Node, _ node: Node, _ declarations: [String: StageDeclaration],
    _ sources: Set<String>
  ) -> PlannedStage? {
    guard let declaration = declarations[name] else { return nil }
    var parts: [String: Node] = [:]
    var elsewhere: [String: String] = [:]
    for parameter in declaration.parameters { elsewhere[parameter.name] = "under 'with'" }
    for input in declaration.inputs where elsewhere[input.name] == nil {
      elsewhere[input.name] = "under 'in'"
    }
    for (key, _, value) in reader.members(
      node, of: "stage '\(name)'", allowed: ["uses", "in", "with", "resources", "on_error"],
      elsewhere: elsewhere)
    { parts[key] = value }

    var bindings: [String: [Reference]] = [:]
    for (port, _, value) in reader.members(
      parts["in"], of: "'in' of stage '\(name)'", allowed: declaration.inputs.map(\.name))
    {
      guard let input = declaration.inputs.first(where: { $0.name == port }) else { continue }
      let nodes = value.sequence.map(Array.init) ?? [value]
      if nodes.isEmpty, !input.optional {
        reader.fail(
          "E021", "stage '\(name)' needs the input '\(port)' (\(input.type.rawValue)), and the list is empty",
          value)
      }
      bindings[port] = nodes.compactMap { node in
        guard let reference = reference(node, declarations, sources) else { return nil }
        check(reference, input, declarations, node)
        return reference
      }
    }
    for input in declaration.inputs where !input.optional && parts["in"]?.mapping?[input.name] == nil {
      reader.fail(
        "E021", "stage '\(name)' needs the input '\(input.name)' (\(input.type.rawValue))",
        parts["in"] ?? keyNode, help: "in: { \(input.name): STAGE.OUTPUT }")
    }

    var values: [String: JSON] = [:]
    for (key, _, value) in reader.members(
      parts["with"], of: "'with' of stage '\(name)'", allowed: declaration.parameters.map(\.name))
    {
      guard let parameter = declaration.parameters.first(where: { $0.name == key }) else { continue }
      let before = reader.problems.count
      let raw = substituted(value)
      // A reference that was not found is one mistake, not also a wrong type.
      guard reader.problems.count == before else { continue }
      if raw == .null, parameter.standard == .null {
        values[key] = .null
      } else {
        switch Resolver.typed(raw, parameter) {
        case .success(let typed): values[key] = typed
        case .failure(let wrong):
          reader.fail(
            wrong.range ? "E018" : "E014", "'\(key)' of stage '\(name)' \(wrong.text)", value,
            label: parameter.unit.isEmpty ? nil : "in \(parameter.unit)")
        }
      }
    }
    for parameter in declaration.parameters where values[parameter.name] == nil {
      if let standard = parameter.standard {
        values[parameter.name] = standard
      } else if parts["with"]?.mapping?[parameter.name] == nil {
        reader.fail(
          "E015", "stage '\(name)' needs the parameter '\(parameter.name)'", parts["with"] ?? keyNode,
          help: parameter.doc)
      }
    }
    var onError = PlannedStage.OnError.skip
    if let node = parts["on_error"], let text = reader.text(node, "'on_error'") {
      if let value = PlannedStage.OnError(rawValue: text) {
        onError = value
      } else {
        reader.fail(
          "E014", "'on_error' can't be '\(text)'", node,
          label: DidYouMean.hint(text, among: ["skip", "fail"], what: "value"))
      }
    }
    return PlannedStage(
      name: name, declaration: declaration, parameters: values, bindings: bindings,
      resources: Resolver.resources(&reader, parts["resources"], standard: declaration.resources),
      onError: onError,
      location: reader.location(keyNode))
  }

  private mutating func reference(
    _ node: Node, _ declarations: [String: StageDeclaration], _ sources: Set<String>
  ) -> Reference? {
    guard let text = reader.text(node, "a reference") else { return nil }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    if parts.count == 1 {
      if sources.contains(text) { return .source(text) }
      let all = sources.sorted() + declarations.flatMap { name, d in d.outputs.map { "\(name).\($0.name)" } }
      reader.fail(
        "E022", "there is no source '\(text)'", node, label: DidYouMean.hint(text, among: all, what: "source")
      )
      return nil
    }
    guard let declaration = declarations[parts[0]] else {
      reader.fail(
        "E022", "there is no stage '\(parts[0])' in this pipeline", node,
        label: DidYouMean.hint(parts[0], among: declarations.keys, what: "stage"))
      return nil
    }
    let output = parts.dropFirst().joined(separator: ".")
    guard declaration.outputs.contains(where: { $0.name == output }) else {
      reader.fail(
        "E022", "stage '\(parts[0])' has no output '\(output)'", node,
        label: DidYouMean.hint(output, among: declaration.outputs.map(\.name), what: "output"))
      return nil
    }
    return .output(stage: parts[0], output: output)
  }

  private mutating func check(
    _ reference: Reference, _ input: InputDeclaration, _ declarations: [String: StageDeclaration],
    _ node: Node
  ) {
    switch reference {
    case .source:
      if input.type.sourceExtensions.isEmpty {
        reader.fail(
          "E023", "a source can't give '\(input.name)', which is of type \(input.type.rawValue)", node)
      }
    case .output(let stage, let output):
      guard let type = declarations[stage]?.outputs.first(where: { $0.name == output })?.type,
        type != input.type
      else { return }
      if input.type == .audio, [.stems, .samples].contains(type) { return }
      reader.fail(
        "E023", "'\(input.name)' takes \(input.type.rawValue), but \(reference) is \(type.rawValue)", node)
    }
  }

  /// The stages so that each comes after those it takes from; `nil` and a diagnostic when they go in a circle.
  private mutating func ordered(_ stages: [PlannedStage], _ keys: [(String, Node)]) -> [PlannedStage]? {
    var (rest, done, result) = (stages, Set<String>(), [PlannedStage]())
    let names = Set(stages.map(\.name))
    func needs(_ stage: PlannedStage) -> [String] {
      stage.bindings.values.flatMap { $0 }.compactMap {
        if case .output(let name, _) = $0, names.contains(name) { name } else { nil }
      }
    }
    while !rest.isEmpty {
      guard let index = rest.firstIndex(where: { needs($0).allSatisfy(done.contains) }) else {
        var loop = [rest[0].name]
        while let stage = rest.first(where: { $0.name == loop[loop.count - 1] }),
          let next = needs(stage).first(where: { !done.contains($0) })
        {
          let closed = loop.contains(next)
          loop.append(next)
          if closed { break }
        }
        let start = loop.firstIndex(of: loop[loop.count - 1]) ?? 0
        reader.fail(
          "E024", "the stages take from each other in a circle: \(loop[start...].joined(separator: " <- "))",
          keys.first { $0.0 == loop[start] }?.1)
        return nil
      }
      done.insert(rest[index].name)
      result.append(rest.remove(at: index))
    }
    return result
  }

  // MARK: Values

  /// A node's value with `${params.x}` put in: alone it keeps its type, within text it is interpolated.
  private mutating func substituted(_ node: Node) -> JSON {
    guard let text = node.scalar?.string, text.contains("${") else { return YAMLReader.value(node) }
    func lookup(_ name: Substring) -> JSON? {
      if let value = shared[String(name)] { return value }
      reader.fail(
        "E025", "there is no parameter '\(name)' in params", node,
        label: DidYouMean.hint(String(name), among: shared.keys, what: "parameter"))
      return nil
    }
    if let match = text.wholeMatch(of: #/\$\{params\.([A-Za-z0-9_]+)\}/#) { return lookup(match.1) ?? .null }
    var result = ""
    var rest = text[...]
    while let match = rest.firstMatch(of: #/\$\{([^}]*)\}/#) {
      result += rest[..<match.range.lowerBound]
      if match.1.hasPrefix("params."), let value = lookup(match.1.dropFirst(7)) {
        result += value.text ?? value.canonical
      } else if !match.1.hasPrefix("params.") {
        reader.fail("E025", "'${\(match.1)}' is not known", node, label: "write ${params.NAME}")
      }
      rest = rest[match.range.upperBound...]
    }
    return .string(result + rest)
  }

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
        if value.wholeMatch(of: #/[0-9]+(:[0-9]+)+/#) != nil {
          text += ", which is not a number here: write it out"
        }
        if value.wholeMatch(of: #/0[0-9]+/#) != nil { text += ": drop the leading zero" }
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
    case (.int(let low, let high), .int(let value)): return bounded(value, low, high, raw)
    case (.int, _): return mismatch("a whole number")
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

  /// `{ cpu: 2, memory: 512MiB }`.
  static func resources(_ reader: inout YAMLReader, _ node: Node?, standard: Resources) -> Resources {
    var result = standard
    for (key, _, value) in reader.members(node, of: "resources", allowed: ["cpu", "memory"]) {
      let json = YAMLReader.value(value)
      if key == "cpu" {
        if case .int(let count) = json, count >= 0 {
          result.cpu = count
        } else {
          reader.fail("E014", "'cpu' must be a whole number; 0 is all of the run's", value)
        }
      } else if let match = (json.text ?? json.canonical).wholeMatch(of: #/([0-9]+)\s*(B|KiB|MiB|GiB)?/#),
        let size = Int(match.1)
      {
        let shift = ["B": 0, "KiB": 10, "MiB": 20, "GiB": 30][match.2.map(String.init) ?? "B"] ?? 0
        let (bytes, overflow) = size.multipliedReportingOverflow(by: 1 << shift)
        if overflow { reader.fail("E018", "'memory' is too large", value) } else { result.memory = bytes }
      } else {
        reader.fail("E014", "'memory' must be like 512MiB", value)
      }
    }
    return result
  }
}
