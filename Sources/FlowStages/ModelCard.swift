import FlowCore
import Foundation

/// The README.md of a folder for the Hugging Face Hub: front matter that the Hub reads, and what a person wants to know.
struct ModelCard {
  /// What the model is called.
  var name: String
  /// An SPDX expression.
  var license: String
  /// The Hub's name of the model it was made from; empty when there is none.
  var base: String
  /// Languages of the lyrics, as ISO 639-1 codes.
  var languages: [String]
  /// Facts, a line each.
  var facts: [String] = []
  /// Whether an adapter is in the folder, and a whole model.
  var hasAdapter = false, hasModel = false
  /// Scores, by their names.
  var metrics: [(name: String, value: Double)] = []
  /// Sounds, and what each is.
  var samples: [(file: String, title: String)] = []

  /// What goes through Git LFS.
  static let attributes = ["safetensors", "bin", "wav", "flac", "png"].map {
    "*.\($0) filter=lfs diff=lfs merge=lfs -text\n"
  }.joined()

  /// A text as a YAML scalar: JSON's strings are YAML's.
  private static func quoted(_ text: String) -> String { JSON.string(text).canonical }

  /// A text within a line of Markdown, as it is.
  private static func plain(_ text: String) -> String {
    "`" + text.filter { !$0.isNewline && $0 != "`" && $0 != "|" } + "`"
  }

  private static func number(_ value: Double) -> String { String(format: "%.6g", value) }

  private var frontMatter: String {
    var lines = HubLicense.members(license).map { "\($0.key): \(ModelCard.quoted($0.value))" }
    func list(_ key: String, _ values: [String]) {
      if !values.isEmpty { lines += ["\(key):"] + values.map { "- \(ModelCard.quoted($0))" } }
    }
    lines += [
      "library_name: \(hasAdapter && !hasModel ? "peft" : "diffrhythm2")", "pipeline_tag: text-to-audio",
    ]
    list("language", languages)
    list("tags", ["music", "singing", "diffrhythm2", "flow"] + (hasAdapter ? ["lora"] : []))
    if !base.isEmpty {
      lines += [
        "base_model: \(ModelCard.quoted(base))",
        "base_model_relation: \(hasAdapter && !hasModel ? "adapter" : "finetune")",
      ]
    }
    let finite = metrics.filter(\.value.isFinite)
    if !finite.isEmpty {
      lines += [
        "model-index:", "- name: \(ModelCard.quoted(name))", "  results:", "  - task:",
        "      type: text-to-audio", "      name: Song generation", "    dataset:", "      type: custom",
        "      name: Songs of its own training", "    metrics:",
      ]
      for metric in finite {
        let quoted = ModelCard.quoted(metric.name)
        lines += [
          "    - type: \(quoted)", "      name: \(quoted)", "      value: \(ModelCard.number(metric.value))",
        ]
      }
    }
    return lines.joined(separator: "\n")
  }

  private var use: String {
    let model = hasModel ? "." : base.isEmpty ? "BASE" : "BASE  # \(base)"
    if hasAdapter, !hasModel {
      return "flow sample BASE -o song.wav --lyrics words.txt --style style.safetensors --adapter .\n"
        + "# BASE: the folder of \(base.isEmpty ? "the model it was trained on" : base)"
    }
    return "flow sample \(model) -o song.wav --lyrics words.txt --style style.safetensors"
  }

  /// The whole text.
  var text: String {
    var parts = ["---\n\(frontMatter)\n---", "# \(name.filter { !$0.isNewline })"]
    let kind =
      hasAdapter && !hasModel
      ? "A low-rank adapter (LoRA) for DiffRhythm 2, in the layout of Python's `peft`."
      : "A DiffRhythm 2 model: transformer and decoder under their published names."
    parts.append(([kind] + facts).map { "- \($0)" }.joined(separator: "\n"))
    parts.append("## Use\n\n```\n\(use)\n```")
    let licensed = license == "NOASSERTION" ? "not said (NOASSERTION)" : ModelCard.plain(license)
    parts.append(
      "## Data and licence\n\nLicence of all that it was made from, joined: \(licensed). `ATTRIBUTION.md` lists the works, their authors and licences, where flow laid it beside this file."
    )
    if !metrics.isEmpty {
      let rows = metrics.map { "| \(ModelCard.plain($0.name)) | \(ModelCard.number($0.value)) |" }
      parts.append(
        "## Scores\n\n| | |\n|---|---|\n" + rows.joined(separator: "\n")
          + "\n\nMeasured on songs of its own training, some held out; FAD is of the embedding that its name says, and compares with no other."
      )
    }
    if !samples.isEmpty {
      parts.append(
        "## Samples\n\nMade by the model, not chosen:\n\n"
          + samples.map { "- [\($0.file)](\($0.file)): \(ModelCard.plain($0.title))" }.joined(separator: "\n")
      )
    }
    parts.append(
      "## Limits\n\nIt may repeat what it was trained on. Don't pass its songs off as a person's voice or work. Made with flow."
    )
    return parts.joined(separator: "\n\n") + "\n"
  }
}
