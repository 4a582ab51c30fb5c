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
}
