import ArgumentParser
import FlowCore
import FlowPlan
import FlowStore
import Foundation

struct Init: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Makes a new project that runs at once; changes nothing that is there.")
  @Argument(help: "The folder.", completion: .directory) var folder: String
  @Option(help: "What it begins with: demo, recordings or train.") var template = "demo"

  func run() async throws {
    try await reporting {
      guard let source = Installation.folder("templates") else {
        throw Diagnostics([
          Diagnostic(
            code: "E038", "the templates are not beside the program",
            help: "install with scripts/install, or run it from its repository")
        ])
      }
      let names = ((try? FileManager.default.contentsOfDirectory(atPath: source)) ?? []).filter {
        !$0.hasPrefix(".")
      }.sorted()
      guard names.contains(template) else {
        throw Diagnostics([
          Diagnostic(
            code: "E038", "there is no template '\(template)'",
            help: DidYouMean.hint(template, among: names, what: "template"))
        ])
      }
      var files: [String: Data] = [:]
      let own = "\(source)/\(template)"
      for case let path as String in FileManager.default.enumerator(atPath: own) ?? .init() {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: "\(own)/\(path)", isDirectory: &isFolder),
          !isFolder.boolValue,
          let data = FileManager.default.contents(atPath: "\(own)/\(path)")
        else { continue }
        files[path] = data
      }
      for (path, text) in Init.common { files[path] = Data(text.utf8) }
      let taken = files.keys.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)") }.sorted()
      guard taken.isEmpty else {
        throw Diagnostics([
          Diagnostic(
            code: "E036", "\(folder) has \(taken.joined(separator: ", ")) already",
            help: "nothing was written; name another folder")
        ])
      }
      for (path, data) in files.sorted(by: { $0.key < $1.key }) {
        let full = "\(folder)/\(path)"
        do {
          try FileManager.default.createDirectory(
            atPath: Path.parent(full), withIntermediateDirectories: true)
          try data.write(to: URL(fileURLWithPath: full), options: .withoutOverwriting)
        } catch {
          throw StoreError.unwritable(path: full, reason: error.localizedDescription)
        }
        Terminal.out("  \(full)")
      }
      Terminal.out("next: cd \(folder) && flow run")
    }
  }

  /// What every project has.
  private static let common = [
    ".gitignore": "cache/\nruns/\n",
    ".gitattributes": MergeLock.attributes + "\n",
    "flow.yaml": "flow: 1\n# cache: { remote: s3:bucket/flow }   # for 'flow cache push' and 'pull'\n",
    "stages/README.md": """
    Your own stages, a YAML file each; the built-in ones ('flow stages') need none. A command as a stage:

    ```yaml
    stage: shout
    version: 1
    doc: Upper case.
    per: item
    run: command
    command: ["sh", "-c", "tr a-z A-Z < \\"$1\\" > \\"$2/text.txt\\"", "shout", "{in.text/*}", "{out.text}"]
    inputs: { text: { type: lyrics, doc: A text. } }
    outputs: { text: { type: lyrics, doc: The same. } }
    ```

    """,
  ]
}

/// Where the program's own files lie.
enum Installation {
  /// A folder that comes with the program: `PREFIX/share/flow/NAME` of an installed one, that of the repository it was
  /// built in otherwise.
  static func folder(_ name: String) -> String? {
    var place = Path.parent(Exec.program)
    while place.count > 1 {
      for candidate in ["\(place)/share/flow/\(name)", "\(place)/\(name)"]
      where FileManager.default.fileExists(atPath: candidate) {
        // A folder of that name alone is not enough: the repository has Package.swift beside it.
        if candidate.contains("/share/flow/")
          || FileManager.default.fileExists(atPath: place + "/Package.swift")
        {
          return candidate
        }
      }
      place = Path.parent(place)
    }
    return nil
  }
}
