import FlowStageKit
import Foundation

/// The `command` of a declared stage.
extension StageCatalog {
  /// How it runs: `run: native`, or `run: command` with `command`, `shell` and `env`.
  static func run(
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
}
