import FlowCore
import Foundation

/// Reads text files with errors that say what to do.
public enum FileText {
  /// The text of a pipeline or a declaration.
  /// - Throws: `Diagnostics` when it can't be read, is larger than 1 MiB, or isn't UTF-8.
  public static func document(_ path: String) throws -> String { try read(path, limit: Document.maxBytes) }

  /// The file's text, however long.
  /// - Throws: `Diagnostics` when it can't be read or isn't UTF-8.
  public static func read(_ path: String) throws -> String { try read(path, limit: .max) }

  /// The file's text.
  /// - Parameter limit: bytes; of a larger file no more is read.
  /// - Throws: `Diagnostics` when it can't be read, is larger than `limit`, or isn't UTF-8.
  private static func read(_ path: String, limit: Int) throws -> String {
    guard let data = bytes(path, limit: limit) else {
      let folder = Path.parent(path)
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
    guard data.count <= limit else {
      throw Diagnostics([
        Diagnostic(
          code: "E003", "\(path) is larger than \(limit >> 20) MiB",
          help: "keep data out of pipelines; a source names a folder")
      ])
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw Diagnostics([Diagnostic(code: "E006", "'\(path)' is not UTF-8 text", help: "save it as UTF-8")])
    }
    return text
  }

  /// At most one more than `limit` bytes, so that a device or a huge file costs nothing.
  private static func bytes(_ path: String, limit: Int) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var (result, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 1 << 16))
    while result.count <= limit {
      let count = Foundation.read(
        file, &buffer, min(buffer.count, limit - result.count + (limit == .max ? 0 : 1)))
      if count < 0, errno == EINTR { continue }
      if count < 0 { return nil }
      if count == 0 { break }
      result += buffer[..<count]
    }
    return result
  }
}
