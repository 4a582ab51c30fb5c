import FlowCore
import FlowScore
import FlowStageKit

/// A prompt with places for what is known of a song: `{genre} music with {instruments} at {bpm} BPM`.
struct PromptTemplate {
  private let text: String
  init(_ text: String) { self.text = text }

  /// The text with its places filled: by the item's attributes (of a manifest), else by `known`.
  /// - Throws: `StageFailure` for a place that nothing is known for.
  func filled(_ item: InputItem, _ known: [String: String] = [:]) throws -> String {
    var values = known
    for (name, value) in item.item.attributes {
      switch value {
      case .string(let text): values[name] = text
      case .int(let number): values[name] = String(number)
      case .double(let number): values[name] = "\(number)"
      default: break
      }
    }
    var (result, rest) = ("", text[...])
    while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
      let name = String(rest[rest.index(after: open)..<close])
      guard let value = values[name] else {
        let names = values.keys.sorted().map { "{\($0)}" }.joined(separator: " ")
        throw StageFailure(
          "nothing is known for '{\(name)}' in 'prompt_template'",
          help: (names.isEmpty ? "" : "known are \(names); ") + "give '\(name)' in the source's manifest")
      }
      result += rest[..<open] + value
      rest = rest[rest.index(after: close)...]
    }
    return result + rest
  }
}

extension Score {
  /// What prompts can say of it; of instruments, the families of General MIDI that play `notes`.
  func promptValues(_ notes: [Note], _ programs: [Int: Int]) -> [String: String] {
    var families: [String] = []
    for channel in Set(notes.map(\.channel)).sorted() {
      let program = min(127, max(0, programs[channel] ?? 0))
      let name = channel == 9 ? "drums" : Score.families[program / 8]
      if !families.contains(name) { families.append(name) }
    }
    let last = families.popLast() ?? "no instruments"
    return [
      "title": title, "genre": genre, "key": key, "bpm": String(Int(tempo.rounded())), "metre": metre,
      "instruments": families.isEmpty ? last : families.joined(separator: ", ") + " and " + last,
    ]
  }

  private static let families = [
    "piano", "bells", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reeds", "flutes",
    "synth lead", "synth pad", "synth effects", "folk instruments", "percussion", "sound effects",
  ]
}
