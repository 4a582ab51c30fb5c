import FlowCore
import Foundation

/// A style vector from words alone, called `hashed-prompt-v1`: no trained encoder, so it carries no musical meaning but
/// what the model learns for it. Prompts that share words lie close to each other.
public enum PromptHash {
  /// The name to store beside the vectors.
  public static let name = "hashed-prompt-v1"

  /// The unit vector of `prompt`, `width` wide: the sum of a normal vector per word (lower case, letters and digits),
  /// seeded by the word. A prompt without words is the zero vector, which is the null style.
  public static func vector(_ prompt: String, width: Int) -> [Float] {
    let words = prompt.lowercased().split { !($0.isLetter || $0.isNumber) }
    var sum = [Double](repeating: 0, count: width)
    for word in Set(words).sorted() {
      var random = Philox(seed: 0, label: name + " " + word)
      for i in 0..<width { sum[i] += random.normal() }
    }
    let norm = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return norm > 0 ? sum.map { Float($0 / norm) } : [Float](repeating: 0, count: width)
  }
}
