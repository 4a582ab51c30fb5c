import FlowCore
import FlowPlan
import FlowStore
import Foundation

/// What `flow run --watch` looks at: names, sizes and times of a pipeline, what it extends, the stages and the sources.
struct Watch {
  private let files: [String]
  private let folders: [String]
  /// How often is looked, seconds; and how long nothing may change before it counts.
  static let pause = 0.4

  /// - Parameters:
  ///   - files: read files; one may be gone.
  ///   - folders: looked at with all in them.
  init(files: [String], folders: [String]) {
    self.files = files
    self.folders = folders
  }

  /// What is there now.
  func state() -> [String: FileIdentity] {
    var result: [String: FileIdentity] = [:]
    for path in files { result[path] = FileIdentity(path: path) }
    for folder in folders {
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) else { continue }
      guard isFolder.boolValue else {
        result[folder] = FileIdentity(path: folder)
        continue
      }
      for case let name as String in FileManager.default.enumerator(atPath: folder) ?? .init()
      where !(name as NSString).lastPathComponent.hasPrefix(".") {
        let path = "\(folder)/\(name)"
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
          continue
        }
        result[path] = FileIdentity(path: path)
      }
    }
    return result
  }

  /// Waits until something is other than `before` and has come to rest; the paths that changed.
  func change(from before: [String: FileIdentity]) async throws -> [String] {
    while true {
      try await Task.sleep(for: .seconds(Watch.pause))
      var now = state()
      if now == before { continue }
      while true {
        try await Task.sleep(for: .seconds(Watch.pause))
        let next = state()
        if next == now { break }
        now = next
      }
      let changed = Set(now.keys).union(before.keys).filter { now[$0] != before[$0] }.sorted()
      if !changed.isEmpty { return changed }
    }
  }
}
