import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor
import Foundation

/// `style`: a prompt's words to a style vector.
struct Style: Stage {
  static let name = "style"
  struct Parameters: Decodable, Sendable { var width: Int }
  let parameters: Parameters

  func run(_ context: StageContext) throws {
    let item = try context.input("prompts")
    let prompt: String
    if item.has("prompts.json") {
      prompt = Style.words(try ModelFiles.config(item, "prompts.json", JSON.self))
    } else {
      prompt = try String(contentsOfFile: item.path(extensions: ["txt", "json"]), encoding: .utf8)
    }
    let vector = PromptHash.vector(prompt, width: parameters.width)
    let bytes = Safetensors.encode(
      ["style": HostTensor(vector, [parameters.width])],
      metadata: ["encoder": PromptHash.name, "prompt": prompt])
    try context.emit("style", files: [ModelFiles.style: .bytes(bytes)])
  }

  /// The member `prompt`, or else all texts in the value, joined.
  private static func words(_ value: JSON) -> String {
    switch value {
    case .string(let text): text
    case .array(let values): values.map(words).filter { !$0.isEmpty }.joined(separator: ", ")
    case .object(let members):
      members["prompt"]?.text
        ?? members.sorted { $0.key < $1.key }.map { words($0.value) }.filter { !$0.isEmpty }.joined(
          separator: ", ")
    default: ""
    }
  }
}
