import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// A source's manifest: JSONL, an item a line: `{"id": "take7", "path": "a/take7.wav"}`, or `"paths": [...]` for several
/// files; `license` (SPDX) and `author` are kept apart, so that they are in no key; other members become the item's
/// attributes.
enum ManifestFile {
  /// Items and where their bytes are. Paths are of the manifest's folder.
  /// - Throws: `Diagnostics` with every mistake at its line, at most 20.
  static func read(_ source: PlannedSource, stats: StatCache) throws
    -> ([Item], [Digest: String], [String: Rights])
  {
    guard let text = FileBytes.read(source.path).flatMap({ String(validating: $0, as: UTF8.self) }) else {
      throw Diagnostics([
        Diagnostic(code: "E006", "'\(source.path)' is not UTF-8 text", help: "save it as UTF-8")
      ])
    }
    let folder = source.path.lastIndex(of: "/").map { String(source.path[...$0]) } ?? ""
    var (items, paths, problems) = ([String: Item](), [Digest: String](), [Diagnostic]())
    var rights: [String: Rights] = [:]
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where line.contains(where: { !$0.isWhitespace }) {
      func fail(_ message: String, _ help: String) {
        problems.append(
          Diagnostic(
            code: "E033", message,
            at: SourceLocation(file: source.path, line: index + 1, column: 1, length: line.count),
            sourceLine: String(line.prefix(200)), help: help))
      }
      guard case .object(var members)? = try? JSON(parsing: line.utf8) else {
        fail("not a JSON object", #"a line is {"id": "take7", "path": "take7.wav"}"#)
        continue
      }
      var own = Rights()
      if let license = members.removeValue(forKey: "license") {
        do throws(LicenseExpression.Mistake) {
          own.license = "\(try LicenseExpression(license.text ?? ""))"
        } catch {
          let hint = error.hint ?? "such as CC-BY-4.0"
          fail("\(license.canonical.prefix(80)) is no licence expression: \(error.message)", hint)
        }
      }
      switch members.removeValue(forKey: "author") {
      case .string(let author)?: own.authors = [author]
      case .array(let authors)?: own.authors = authors.compactMap(\.text)
      case nil: break
      default: fail("'author' must be text, or a list of texts", #""author": "A. Singer""#)
      }
      var names: [String] = []
      if let path = members.removeValue(forKey: "path")?.text { names.append(path) }
      if case .array(let list)? = members.removeValue(forKey: "paths") { names += list.compactMap(\.text) }
      guard let id = members.removeValue(forKey: "id")?.text, !id.isEmpty, !names.isEmpty else {
        fail("an item needs 'id' and 'path' or 'paths'", #"{"id": "take7", "path": "take7.wav"}"#)
        continue
      }
      var files: [ItemFile] = []
      for name in names {
        let path = name.hasPrefix("/") ? name : folder + name
        guard let (digest, size) = stats.digest(path) else {
          fail("there is no file '\(path)'", "paths are of the manifest's folder")
          continue
        }
        let ending = (name as NSString).pathExtension.lowercased()
        let file = "source." + ending
        guard !files.contains(where: { $0.name == file }) else {
          fail("two files of '\(id)' end in .\(ending)", "an item has one file of a kind")
          continue
        }
        files.append(ItemFile(name: file, digest: digest, size: size))
        paths[digest] = path
      }
      if items[id] != nil { fail("the item '\(id)' occurs twice", "give it another id") }
      if own != Rights() { rights[id] = own }
      items[id] = Item(id: id, files: files, attributes: members)
    }
    if !problems.isEmpty { throw Diagnostics(Array(problems.prefix(20))) }
    return (items.values.sorted { $0.id < $1.id }, paths, rights)
  }
}
