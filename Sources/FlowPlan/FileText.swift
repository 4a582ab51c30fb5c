import FlowCore
import Foundation

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
