public import Foundation

/// Where golden numbers lie: `FLOW_GOLDEN`, or the small files committed under `Tests/Golden`. Golden suites run on
/// whatever of it is there, under the same sub-folders and file names, and take every size from the sidecar JSON.
public enum Golden {
  /// The folder of golden numbers.
  public static var root: URL {
    if let path = ProcessInfo.processInfo.environment["FLOW_GOLDEN"], !path.isEmpty {
      return URL(fileURLWithPath: path, isDirectory: true)
    }
    return repository.appendingPathComponent("Tests/Golden", isDirectory: true)
  }

  /// The root of the checkout.
  public static var repository: URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
  }

  /// The file at `path` below the root, if it is there; the skip is printed when not.
  public static func file(_ path: String) -> URL? {
    let url = root.appendingPathComponent(path)
    if FileManager.default.fileExists(atPath: url.path) { return url }
    print("skipped: no golden file \(path) under \(root.lastPathComponent)")
    return nil
  }

  /// The names in the folder `path` below the root that end in `suffix`, sorted; none when it isn't there.
  public static func files(in path: String, suffix: String) -> [String] {
    let names =
      (try? FileManager.default.contentsOfDirectory(atPath: root.appendingPathComponent(path).path)) ?? []
    let found = names.filter { $0.hasSuffix(suffix) }.sorted()
    if found.isEmpty { print("skipped: no golden files \(path)/*\(suffix)") }
    return found
  }

  /// The folder of test corpora beside the checkout, if it is there; the skip is printed when not.
  public static func corpus(_ path: String) -> URL? {
    let url = repository.deletingLastPathComponent().appendingPathComponent("shared/corpora/\(path)")
    if FileManager.default.fileExists(atPath: url.path) { return url }
    print("skipped: no corpus \(path) beside the checkout")
    return nil
  }
}
