import FlowCore
import FlowStageKit
import FlowStore
import Foundation

/// The scratch folder of a command: `in/PORT/…`, `out/PORT/…`, `metrics.json`. The command works in it and gets relative
/// paths, so that what it writes doesn't depend on where the cache lies.
struct CommandLayout {
  private let root: String
  private let action: Action
  private let threads: Int
  private let io: StoreIO

  init(root: String, action: Action, threads: Int, io: StoreIO) throws {
    (self.root, self.action, self.threads, self.io) = (root, action, threads, io)
    try io.scratch.makeFolders("in", action.inputs.keys)
    try io.scratch.makeFolders("out", action.outputs)
    for (port, items) in action.inputs {
      for item in items {
        let folder = item.id.isEmpty ? inFolder(port) : "\(inFolder(port))/\(Results.safe(item.id))"
        for file in item.files {
          try io.materialise(file, at: "\(root)/\(folder)/\(Results.safe(file.name))")
        }
      }
    }
  }

  private func inFolder(_ port: String) -> String { "in/\(port)" }
  private func outFolder(_ port: String) -> String { "out/\(port)" }
  private var metricsFile: String { "metrics.json" }

  /// What the mark stands for: usually one text, for a list one per element.
  private func value(_ mark: CommandTemplate.Mark) throws -> [String] {
    switch mark {
    case .input(let port, nil): return [inFolder(port)]
    case .input(let port, "*"?):
      let files = (action.inputs[port] ?? []).flatMap { item in
        item.files.map { item.id.isEmpty ? $0.name : "\(Results.safe(item.id))/\($0.name)" }
      }
      guard files.count == 1 else {
        throw StageFailure("{in.\(port)/*} is one file, but there are \(files.count)")
      }
      return ["\(inFolder(port))/\(files[0])"]
    case .input(let port, let file?): return ["\(inFolder(port))/\(file)"]
    case .output(let port): return [outFolder(port)]
    case .parameter(let name): return CommandLayout.texts(action.parameters[name] ?? .null)
    case .threads: return ["\(threads)"]
    case .metrics: return [metricsFile]
    }
  }

  private static func texts(_ value: JSON) -> [String] {
    switch value {
    case .array(let values): values.flatMap(texts)
    case .string(let text): [text]
    case .null: []
    default: [value.canonical]
    }
  }

  /// A word with its marks filled: one word, but a word that is nothing but a list's mark becomes as many as it has.
  func filled(_ word: String) throws -> [String] {
    let pieces = CommandTemplate.pieces(word)
    if pieces.count == 1, case .mark(let mark) = pieces[0] { return try value(mark) }
    return [
      try pieces.map { piece in
        switch piece {
        case .text(let text): text
        case .mark(let mark): try value(mark).joined(separator: ",")
        }
      }.joined()
    ]
  }

  /// The values as variables, for a shell.
  var variables: [String: String] {
    func name(_ prefix: String, _ port: String) -> String {
      "FLOW_\(prefix)_" + port.uppercased().map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
    }
    var result = ["FLOW_THREADS": "\(threads)", "FLOW_METRICS": metricsFile]
    for port in action.inputs.keys { result[name("IN", port)] = inFolder(port) }
    for port in action.outputs { result[name("OUT", port)] = outFolder(port) }
    for (parameter, value) in action.parameters {
      result[name("PARAM", parameter)] = CommandLayout.texts(value).joined(separator: " ")
    }
    return result
  }

  /// What the program wrote, as items.
  func collect() throws -> StageContext.Result {
    var result = StageContext.Result()
    for port in action.outputs {
      let folder = "\(root)/\(outFolder(port))"
      let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
      var (own, items) = ([ItemFile](), [Item]())
      for name in names {
        if try isFolder("\(folder)/\(name)") {
          guard !action.perItem else {
            throw StageFailure(
              "the command wrote a folder '\(name)' to {out.\(port)}; an item's files lie side by side")
          }
          let inner = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(name)").sorted()
          items.append(Item(id: name, files: try inner.map { try file("\(folder)/\(name)", $0) }))
        } else {
          own.append(try file(folder, name))
        }
      }
      if !own.isEmpty { items.append(Item(id: action.perItem ? "" : port, files: own)) }
      guard items.contains(where: { !$0.files.isEmpty }) else {
        throw StageFailure("the command wrote nothing to {out.\(port)}")
      }
      result.outputs[port] = items
    }
    if let data = FileManager.default.contents(atPath: "\(root)/\(metricsFile)") {
      guard case .object(let members)? = try? JSON(parsing: data) else {
        throw StageFailure("what the command wrote to {metrics} is not a JSON object of numbers")
      }
      result.metrics = members.compactMapValues(\.number)
    }
    return result
  }

  private func isFolder(_ path: String) throws -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0 else { throw StageFailure("'\(path)' can't be read") }
    switch status.st_mode & S_IFMT {
    case S_IFDIR: return true
    case S_IFREG: return false
    default:
      throw StageFailure(
        "the command wrote '\((path as NSString).lastPathComponent)', which is neither file nor folder")
    }
  }

  private func file(_ folder: String, _ name: String) throws -> ItemFile {
    guard try !isFolder("\(folder)/\(name)") else {
      throw StageFailure("folders within an item ('\(name)') are not kept")
    }
    return try io.store(contentsOf: "\(folder)/\(name)", as: name)
  }
}
