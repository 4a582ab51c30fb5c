public import FlowCore
public import FlowStageKit
import Foundation

/// The declared stages, from `stages/*.yaml`.
public struct StageCatalog: Sendable {
  /// The declarations by name.
  public let stages: [String: StageDeclaration]
  /// What is inside of those that are pipelines.
  let bodies: [String: PipelineBody]

  /// The names, sorted.
  public var names: [String] { stages.keys.sorted() }

  /// The declaration called `name`.
  public subscript(name: String) -> StageDeclaration? { stages[name] }

  /// These declarations; none of them a pipeline.
  public init(_ stages: [StageDeclaration]) {
    self.stages = Dictionary(stages.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    bodies = [:]
  }

  /// Reads all `*.yaml` of `folder`.
  /// - Throws: `Diagnostics` with every mistake.
  public init(loading folder: String) throws {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw Diagnostics([
        Diagnostic(
          code: "E005", "there is no folder '\(folder)'",
          help: "run flow in a project: a folder with stages/ and pipelines/")
      ])
    }
    let files = names.filter { $0.hasSuffix(".yaml") }.sorted().map { folder + "/" + $0 }
    try self.init(parsing: try files.map { ($0, try FileText.document($0)) })
  }

  /// Parses declarations, each named after its file.
  /// - Parameter parsed: trees of texts from earlier starts.
  /// - Throws: `Diagnostics` with every mistake.
  public init(parsing texts: [(file: String, text: String)], parsed: ParsedTexts? = nil) throws {
    var (found, bodies, problems) = ([StageDeclaration](), [String: PipelineBody](), [Diagnostic]())
    for (file, text) in texts {
      let (declaration, body, mistakes) = StageCatalog.read(file: file, text: text, parsed)
      problems += mistakes
      guard let declaration else { continue }
      let stem = (file as NSString).lastPathComponent.dropLast(5)
      if declaration.name != stem {
        problems.append(
          Diagnostic(
            code: "E026", "\(file) declares the stage '\(declaration.name)'",
            help: "a stage's file has its name: write 'stage: \(stem)' or rename the file"))
      }
      found.append(declaration)
      bodies[declaration.name] = body
    }
    stages = Dictionary(found.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    self.bodies = bodies
    // A declaration that can't be read would also be missing in those that use it.
    if problems.isEmpty { problems = PipelineStages.check(self) }
    if !problems.isEmpty { throw Diagnostics(problems) }
  }

  /// Parses one declaration; what lies inside of a pipeline stage is checked with the others only.
  public static func parse(file: String, text: String) -> (StageDeclaration?, [Diagnostic]) {
    let (declaration, _, problems) = read(file: file, text: text, nil)
    return (declaration, problems)
  }

  private static let commonKeys = ["stage", "doc", "run", "inputs", "outputs", "params"]

  private static func read(file: String, text: String, _ parsed: ParsedTexts?) -> (
    StageDeclaration?, PipelineBody?, [Diagnostic]
  ) {
    let document = Document(file: file, text: text, parsed: parsed)
    var reader = DocumentReader(document)
    guard let root = reader.root else { return (nil, nil, reader.problems) }
    let isPipeline = root["run"]?.text == "pipeline"
    let keys =
      commonKeys
      + (isPipeline
        ? ["stages"]
        : ["version", "per", "resources", "gate", "numeric", "command", "shell", "env", "sandbox", "reads"])
    func elsewhere(_ key: String) -> String? {
      isPipeline && ["version", "per", "resources", "gate", "numeric"].contains(key)
        ? "in the stages within" : nil
    }
    var parts: [String: DocumentNode] = [:]
    for (key, _, value) in reader.members(root, of: "a stage", allowed: keys, elsewhere: elsewhere) {
      parts[key] = value
    }
    let needed = ["stage"] + (isPipeline ? ["outputs", "stages"] : ["version", "per", "outputs"])
    for key in needed where parts[key] == nil { reader.fail("E015", "a stage needs '\(key)'", root) }
    let name = reader.text(parts["stage"], "'stage'") ?? ""
    if parts["stage"] != nil { reader.checkName(name, "a stage", parts["stage"]) }
    var declaration = StageDeclaration(
      name: name, version: 1, doc: reader.text(parts["doc"], "'doc'") ?? "", per: .all)
    declaration.inputs = inputs(
      &reader, parts["inputs"], flags: isPipeline ? ["optional"] : ["optional", "whole"])
    let outputs = inputs(&reader, parts["outputs"], flags: isPipeline ? ["from"] : [])
    declaration.outputs = outputs.map { OutputDeclaration(name: $0.name, type: $0.type, doc: $0.doc) }
    declaration.parameters = parameters(&reader, parts["params"], isPipeline: isPipeline)
    checkCounts(&reader, declaration, parts["params"])
    var body: PipelineBody?
    if isPipeline {
      declaration.run = .pipeline
      body = self.body(&reader, document, parts)
    } else {
      if let node = parts["version"] {
        if let value = DocumentReader.whole(node.json), value >= 1 {
          declaration.version = value
        } else {
          reader.fail("E014", "'version' must be a whole number from 1", node)
        }
      }
      declaration.per = reader.choice(parts["per"], "per", StageDeclaration.Per.item)
      declaration.run = run(&reader, parts, declaration)
      declaration.gate = parts["gate"].flatMap { reader.choice($0, "gate", StageDeclaration.Gate.license) }
      declaration.numeric = parts["numeric"].flatMap {
        reader.choice($0, "numeric", StageDeclaration.Numeric.blas)
      }
      declaration.resources = Values.resources(&reader, parts["resources"], standard: Resources())
    }
    return (reader.problems.isEmpty ? declaration : nil, body, reader.problems)
  }

  private static func body(
    _ reader: inout DocumentReader, _ document: Document, _ parts: [String: DocumentNode]
  ) -> PipelineBody? {
    var from: [String: DocumentNode] = [:]
    for member in parts["outputs"]?.members ?? [] {
      if let node = member.value["from"] {
        from[member.name] = node
      } else if member.value.members != nil {
        reader.fail(
          "E015", "the output '\(member.name)' needs 'from'", member.key,
          help: "from: STAGE.OUTPUT of a stage within")
      }
    }
    guard let stages = parts["stages"] else { return nil }
    if stages.members?.isEmpty ?? true {
      reader.fail("E015", "a pipeline stage needs stages within", stages)
    }
    return PipelineBody(document: document, stages: stages, from: from)
  }

  /// How it runs: `run: native`, or `run: command` with `command`, `shell` and `env`.
  private static func run(
    _ reader: inout DocumentReader, _ parts: [String: DocumentNode], _ declaration: StageDeclaration
  ) -> StageDeclaration.Run {
    let kind = reader.text(parts["run"], "'run'") ?? "native"
    guard ["native", "command"].contains(kind) else {
      reader.fail(
        "E014", "'run' can't be '\(kind)'", parts["run"],
        label: DidYouMean.hint(kind, among: ["native", "command", "pipeline"], what: "value"))
      return .native
    }
    guard kind == "command" else {
      for key in ["command", "shell", "env", "sandbox", "reads"] where parts[key] != nil {
        reader.fail("E015", "'\(key)' is for stages that run a program", parts[key], help: "run: command")
      }
      return .native
    }
    let shell = parts["shell"].map { reader.flag($0, "'shell'") } ?? false
    var words: [String] = []
    if let node = parts["command"] {
      if shell {
        words = [reader.text(node, "'command'") ?? ""]
      } else if node.elements != nil {
        words = reader.strings(node, "'command'")
      } else {
        reader.fail(
          "E014", "'command' must be a list: the program and its arguments", node,
          help: "command: [cp, \"{in.audio/*}\", \"{out.audio}/\"]; a text needs 'shell: true'")
      }
    }
    if words.allSatisfy(\.isEmpty) {
      reader.fail("E015", "a command stage needs 'command'", parts["command"] ?? parts["run"])
    }
    var environment: [String: String] = [:]
    for (name, _, value) in reader.members(parts["env"], of: "'env'", allowed: nil) {
      environment[name] = reader.text(value, "'\(name)'")
    }
    var template = CommandTemplate(words: words, shell: shell, environment: environment)
    if let node = parts["sandbox"] { template.sandbox = reader.flag(node, "'sandbox'") }
    template.reads = reader.strings(parts["reads"], "'reads'")
    check(&reader, template, declaration, parts["command"])
    return .command(template)
  }

  /// Finds marks that name no port or parameter.
  private static func check(
    _ reader: inout DocumentReader, _ command: CommandTemplate, _ declaration: StageDeclaration,
    _ node: DocumentNode?
  ) {
    func known(_ name: String, _ names: [String], _ mark: String, _ what: String) {
      guard !names.contains(name) else { return }
      reader.fail(
        "E022", "there is no \(what) '\(name)' for \(mark)", node,
        label: DidYouMean.hint(name, among: names, what: what))
    }
    let words = (command.shell ? [] : command.words) + command.environment.values
    for case .mark(let mark) in words.flatMap(CommandTemplate.pieces) {
      switch mark {
      case .input(let port, _): known(port, declaration.inputs.map(\.name), "{in.\(port)}", "input")
      case .output(let port): known(port, declaration.outputs.map(\.name), "{out.\(port)}", "output")
      case .parameter(let name):
        known(name, declaration.parameters.map(\.name), "{params.\(name)}", "parameter")
      case .threads, .metrics: break
      }
    }
    // What looks like a mark and is none would reach the program as it stands.
    for case .text(let text) in words.flatMap(CommandTemplate.pieces) {
      for start in ["{in.", "{out.", "{params."] {
        guard let found = text.range(of: start) else { continue }
        let mark = text[found.lowerBound...].prefix { $0 != "}" }
        reader.fail(
          "E022", "'\(mark)}' is no mark", node,
          help: "{in.PORT}, {in.PORT/FILE}, {in.PORT/*}, {out.PORT}, {params.NAME}, {threads}, {metrics}")
      }
    }
  }

  /// Inputs or outputs; `flags` are the keys beside `type` and `doc`.
  private static func inputs(_ reader: inout DocumentReader, _ node: DocumentNode?, flags: [String])
    -> [InputDeclaration]
  {
    var result: [InputDeclaration] = []
    for (name, keyNode, value) in reader.members(node, of: "inputs or outputs", allowed: nil) {
      reader.checkName(name, "an input or output", keyNode)
      var input = InputDeclaration(name: name, type: .audio)
      var typed = false
      for (key, _, field) in reader.members(
        value, of: "'\(name)'", allowed: ["type", "doc"] + flags)
      {
        switch key {
        case "type":
          let text = reader.text(field, "'type'") ?? ""
          typed = true
          if let type = ArtifactType(rawValue: text) {
            input.type = type
          } else {
            reader.fail(
              "E014", "there is no artifact type '\(text)'", field,
              label: DidYouMean.hint(text, among: ArtifactType.allCases.map(\.rawValue), what: "type"))
          }
        case "doc": input.doc = reader.text(field, "'doc'") ?? ""
        case "whole": input.whole = reader.flag(field, "'whole'")
        case "optional": input.optional = reader.flag(field, "'optional'")
        default: break
        }
      }
      if !typed { reader.fail("E015", "'\(name)' needs 'type'", value) }
      result.append(input)
    }
    return result
  }

  private static func parameters(
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
