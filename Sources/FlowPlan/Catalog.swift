public import FlowCore
public import FlowStageKit
import Foundation

/// The declared stages, from `stages/*.yaml`.
public struct StageCatalog: Sendable {
  /// The declarations by name.
  public let stages: [String: StageDeclaration]

  /// The names, sorted.
  public var names: [String] { stages.keys.sorted() }

  /// The declaration called `name`.
  public subscript(name: String) -> StageDeclaration? { stages[name] }

  /// These declarations.
  public init(_ stages: [StageDeclaration]) {
    self.stages = Dictionary(stages.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
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
    var found: [StageDeclaration] = []
    var problems: [Diagnostic] = []
    for name in names.sorted() where name.hasSuffix(".yaml") {
      let path = folder + "/" + name
      let (declaration, mistakes) = StageCatalog.parse(file: path, text: try FileText.read(path))
      problems += mistakes
      guard let declaration else { continue }
      let stem = String(name.dropLast(5))
      if declaration.name != stem {
        problems.append(
          Diagnostic(
            code: "E026", "\(path) declares the stage '\(declaration.name)'",
            help: "a stage's file has its name: write 'stage: \(stem)' or rename the file"))
      }
      found.append(declaration)
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    self.init(found)
  }

  /// Parses one declaration.
  public static func parse(file: String, text: String) -> (StageDeclaration?, [Diagnostic]) {
    var reader = DocumentReader(file: file, text: text)
    guard let root = reader.root else { return (nil, reader.problems) }
    let keys = [
      "stage", "version", "doc", "per", "run", "inputs", "outputs", "params", "resources", "command", "shell",
      "env",
    ]
    var parts: [String: DocumentNode] = [:]
    for (key, _, value) in reader.members(root, of: "a stage", allowed: keys) { parts[key] = value }
    for key in ["stage", "version", "per", "outputs"] where parts[key] == nil {
      reader.fail("E015", "a stage needs '\(key)'", root)
    }
    let name = reader.text(parts["stage"], "'stage'") ?? ""
    if parts["stage"] != nil { reader.checkName(name, "a stage", parts["stage"]) }
    var version = 0
    if let node = parts["version"] {
      if case .int(let value) = node.json, value >= 1 {
        version = value
      } else {
        reader.fail("E014", "'version' must be a whole number from 1", node)
      }
    }
    var declaration = StageDeclaration(
      name: name, version: version, doc: reader.text(parts["doc"], "'doc'") ?? "",
      per: reader.choice(parts["per"], "per", StageDeclaration.Per.item))
    declaration.inputs = inputs(&reader, parts["inputs"])
    declaration.outputs = inputs(&reader, parts["outputs"]).map {
      OutputDeclaration(name: $0.name, type: $0.type, doc: $0.doc)
    }
    declaration.parameters = parameters(&reader, parts["params"])
    declaration.run = run(&reader, parts, declaration)
    declaration.resources = Values.resources(&reader, parts["resources"], standard: Resources())
    return (reader.problems.isEmpty ? declaration : nil, reader.problems)
  }

  /// How it runs: `run: native`, or `run: command` with `command`, `shell` and `env`.
  private static func run(
    _ reader: inout DocumentReader, _ parts: [String: DocumentNode], _ declaration: StageDeclaration
  ) -> StageDeclaration.Run {
    let kind = reader.text(parts["run"], "'run'") ?? "native"
    guard ["native", "command"].contains(kind) else {
      reader.fail(
        "E014", "'run' can't be '\(kind)'", parts["run"],
        label: DidYouMean.hint(kind, among: ["native", "command"], what: "value"))
      return .native
    }
    guard kind == "command" else {
      for key in ["command", "shell", "env"] where parts[key] != nil {
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
    let template = CommandTemplate(words: words, shell: shell, environment: environment)
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
  }

  private static func inputs(_ reader: inout DocumentReader, _ node: DocumentNode?) -> [InputDeclaration] {
    var result: [InputDeclaration] = []
    for (name, _, value) in reader.members(node, of: "inputs or outputs", allowed: nil) {
      var input = InputDeclaration(name: name, type: .audio)
      var typed = false
      for (key, _, field) in reader.members(
        value, of: "'\(name)'", allowed: ["type", "doc", "whole", "optional"])
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
        default: input.optional = reader.flag(field, "'optional'")
        }
      }
      if !typed { reader.fail("E015", "'\(name)' needs 'type'", value) }
      result.append(input)
    }
    return result
  }

  private static func parameters(_ reader: inout DocumentReader, _ node: DocumentNode?)
    -> [ParameterDeclaration]
  {
    var result: [ParameterDeclaration] = []
    let keys = ["type", "default", "min", "max", "unit", "doc", "affects", "choices", "search", "package"]
    for (name, _, value) in reader.members(node, of: "params", allowed: nil) {
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
    return result
  }
}

/// Reads text files with errors that say what to do.
public enum FileText {
  /// The file's text.
  /// - Throws: `Diagnostics` when it can't be read or isn't UTF-8.
  public static func read(_ path: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: path) else {
      let folder = (path as NSString).deletingLastPathComponent
      let near = (try? FileManager.default.contentsOfDirectory(atPath: folder.isEmpty ? "." : folder)) ?? []
      let name = (path as NSString).lastPathComponent
      let yaml = near.filter { $0.hasSuffix(".yaml") && !$0.hasSuffix(".lock.yaml") }.sorted()
      throw Diagnostics([
        Diagnostic(
          code: "E005", "can't read '\(path)'", label: nil,
          notes: yaml.isEmpty ? [] : ["there is: \(yaml.joined(separator: ", "))"],
          help: DidYouMean.nearest(name, among: yaml).map { "did you mean '\($0)'?" }
            ?? "give the path of a pipeline, such as pipelines/vocal.yaml")
      ])
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw Diagnostics([Diagnostic(code: "E006", "'\(path)' is not UTF-8 text", help: "save it as UTF-8")])
    }
    return text
  }
}
