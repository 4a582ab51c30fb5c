import FlowCore
import Foundation

/// What lock files say that the cache must keep: those in the working tree, and all that branches and tags of git reach.
enum LockRoots {
  /// The trees they name.
  static func trees(_ root: String) -> Set<Digest> {
    var trees = Set<Digest>()
    let names = FileManager.default.enumerator(atPath: root)
    while let name = names?.nextObject() as? String {
      // What flow, git and build tools make themselves holds none, and much else.
      if [".git", ".build", "cache", "runs", "node_modules"].contains(name) { names?.skipDescendants() }
      guard name.hasSuffix(".lock.yaml"),
        let text = try? String(contentsOfFile: "\(root)/\(name)", encoding: .utf8)
      else { continue }
      collect(text, &trees)
    }
    for id in blobs(root) { if let text = git(root, ["cat-file", "blob", id]) { collect(text, &trees) } }
    return trees
  }

  private static func blobs(_ root: String) -> [String] {
    let listing =
      git(root, ["rev-list", "--objects", "--branches", "--tags", "HEAD", "--", "*.lock.yaml"]) ?? ""
    return listing.split(separator: "\n").compactMap { line in
      line.hasSuffix(".lock.yaml") ? line.split(separator: " ").first.map(String.init) : nil
    }
  }

  private static func collect(_ text: String, _ trees: inout Set<Digest>) {
    for piece in text.split(separator: "digest: ").dropFirst() {
      if let digest = Digest(hex: String(piece.prefix(64))) { trees.insert(digest) }
    }
  }

  /// What git prints; `nil` where it can't say: no git, no repository, no commit yet.
  private static func git(_ root: String, _ words: [String]) -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["git", "-C", root] + words
    let out = Pipe()
    process.standardOutput = out
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let data = out.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
  }
}
