import FlowStageKit

/// Passes files on as they are.
struct Pass: Stage {
  static let name = "pass"
  struct Parameters: Decodable, Sendable {}
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let item = try context.input("files")
    var files: [String: FileContent] = [:]
    for name in item.fileNames { files[name] = .file(try item.path(name)) }
    try context.emit("files", files: files)
  }
}
