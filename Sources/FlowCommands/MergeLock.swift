import ArgumentParser
import FlowCore
import FlowEngine
import FlowPlan
import FlowStore
import Foundation

struct MergeLock: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge-lock", abstract: "Merges lock files; git calls it (see 'flow help git').")
  @Argument(help: "The common ancestor (%O).") var base: String
  @Argument(help: "This side (%A); the result is written here.") var ours: String
  @Argument(help: "The other side (%B).") var theirs: String
  @Argument(help: "The lock file's path in the repository (%P), for messages.") var path: String?

  func run() async throws {
    try await reporting {
      let texts = try [base, ours, theirs].map(FileText.read)
      let merged = LockMerge.merge(base: texts[0], ours: texts[1], theirs: texts[2])
      guard FileManager.default.createFile(atPath: ours, contents: Data(merged.text.utf8)) else {
        throw StoreError.unwritable(path: ours, reason: String(cString: strerror(errno)))
      }
      guard !merged.unresolved.isEmpty else { return }
      let file = path ?? ours
      let pipeline = file.hasSuffix(".lock.yaml") ? String(file.dropLast(10)) + ".yaml" : file
      Terminal.error(
        "\(file): changed on both sides: \(merged.unresolved.joined(separator: ", ")); 'flow run \(pipeline)' fills them in, then git add"
      )
      // git then says that the file is in conflict, so that nobody commits it unseen; it can be read all the same.
      throw ExitCode(1)
    }
  }

  /// What makes git call this command.
  static let attributes = "*.lock.yaml merge=flow-lock"
  static let driver = "flow merge-lock %O %A %B %P"
}
