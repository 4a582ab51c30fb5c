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
    let prompt = try String(contentsOfFile: context.input("prompts").path("prompt.txt"), encoding: .utf8)
    let vector = PromptHash.vector(prompt, width: parameters.width)
    let bytes = Safetensors.encode(
      ["style": try HostTensor(vector, [parameters.width])],
      metadata: ["encoder": PromptHash.name, "prompt": prompt])
    try context.emit("style", files: [ModelFiles.style: .bytes(bytes)])
  }
}
