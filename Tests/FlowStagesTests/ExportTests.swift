import FlowAudio
import FlowCore
import FlowModels
import FlowNN
import FlowPlan
import FlowStageKit
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

@testable import FlowStages

@Suite struct ExportTests {
  private static let golden = repositoryRoot + "/Tests/Golden/diffrhythm2/"
  private let io: FolderIO

  init() throws { io = try FolderIO(root: try TemporaryFolder().path) }

  private func item(_ id: String, _ files: [String: [UInt8]]) throws -> Item {
    Item(id: id, files: try files.sorted { $0.key < $1.key }.map { try io.store($0.value, as: $0.key) })
  }

  private func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: ExportTests.golden + name)))
  }

  private func adapter() throws -> Item {
    try item(
      "adapter",
      [
        "adapter_config.json": bytes("lora_adapter/adapter_config.json"),
        "adapter_model.safetensors": bytes("lora_adapter/adapter_model.safetensors"),
      ])
  }

  private func model() throws -> Item {
    let sidecar = try JSON(parsing: Data(bytes("dit_tiny_weights.json")))
    return try item(
      "model",
      [
        "model.safetensors": bytes("dit_tiny_weights.safetensors"),
        "model.json": Array((sidecar["config"]?["dit"] ?? .null).canonical.utf8),
      ])
  }

  private func parameters(
    license: String = "CC0-1.0", title: String = "", base: String = "", languages: [String] = []
  ) -> Export.Parameters {
    Export.Parameters(
      shard: 4096, license: license, title: title, baseModel: base, languages: languages, samples: 2,
      type: .float32)
  }

  private func export(
    _ inputs: [String: [Item]], _ parameters: Export.Parameters
  ) throws -> [String: [UInt8]] {
    let context = StageContext(
      declaration: try #require(try StageContract.catalog.get()["export"]), inputs: inputs, threads: 1, io: io
    )
    try Export(parameters: parameters).run(context)
    let files = try #require(context.result.outputs["weights"]?.first?.files)
    var result: [String: [UInt8]] = [:]
    for file in files {
      result[file.name] = [UInt8](try Data(contentsOf: URL(fileURLWithPath: try io.materialise(file))))
    }
    return result
  }

  /// The front matter, read by the reader of pipelines.
  private func card(_ files: [String: [UInt8]]) throws -> (front: [String], body: String) {
    let text = String(decoding: try #require(files["README.md"]), as: UTF8.self)
    let parts = text.components(separatedBy: "---\n")
    #expect(parts.count == 3 && parts[0].isEmpty)
    return (parts[1].split(separator: "\n").map(String.init), parts.last ?? "")
  }

  @Test func aModelsFolder() throws {
    let metrics = #"{"schema":"flow.metrics/1","metrics":{"FAD[flow-dsp-v1]":12.5,"f0_rmse_hz":3}}"#
    let wave = Array("RIFF".utf8)
    let songs = try ["a", "b|<i>", "c"].map { try item($0, ["audio.wav": wave + Array($0.utf8)]) }
    let files = try export(
      [
        "model": [model()], "metrics": [item("metrics", ["metrics.json": Array(metrics.utf8)])],
        "samples": songs,
      ],
      parameters(
        license: "CC-BY-4.0", title: "Songs: \"mine\"", base: "ASLP-lab/DiffRhythm2", languages: ["en", "zh"])
    )
    #expect(
      files.keys.sorted() == [
        ".gitattributes", "README.md", "model.json", "model.safetensors", "sample-1.wav", "sample-2.wav",
      ])
    #expect(files["sample-2.wav"] == wave + Array("b|<i>".utf8))
    let (front, body) = try card(files)
    for line in [
      "license: \"cc-by-4.0\"", "pipeline_tag: text-to-audio", "library_name: diffrhythm2", "- \"zh\"",
      "base_model: \"ASLP-lab\\/DiffRhythm2\"", "base_model_relation: finetune",
      "- name: \"Songs: \\\"mine\\\"\"", "    - type: \"FAD[flow-dsp-v1]\"", "      value: 12.5",
    ] { #expect(front.contains(line) || front.contains(line.replacing("\\/", with: "/")), "\(line)") }
    #expect(body.contains("| `f0_rmse_hz` | 3 |") && body.contains("[sample-2.wav](sample-2.wav): `b<i>`"))
    #expect(!body.contains("sample-3.wav"))
    #expect(
      String(decoding: files[".gitattributes"] ?? [], as: UTF8.self).contains("*.safetensors filter=lfs"))
    let before = try SafetensorsFile(data: Data(bytes("dit_tiny_weights.safetensors")))
    let after = try SafetensorsFile(data: Data(try #require(files["model.safetensors"])))
    #expect(before.names == after.names && after.metadata["license"] == "CC-BY-4.0")
    for name in before.names { #expect(try before.tensor(name) == after.tensor(name), "\(name)") }
  }

  @Test func halfTheBytes() throws {
    var half = parameters()
    half.type = .bfloat16
    let files = try export(["model": [model()]], half)
    let before = try SafetensorsFile(data: Data(bytes("dit_tiny_weights.safetensors")))
    let after = try SafetensorsFile(data: Data(try #require(files["model.safetensors"])))
    #expect(before.names == after.names)
    for name in before.names {
      let (a, b) = (try before.tensor(name), try after.tensor(name))
      #expect(after.entries[name]?.type == "BF16", "\(name)")
      #expect(b == a.cast(to: .bfloat16).cast(to: .float32), "\(name)")
    }
  }

  @Test func anAdaptersFolder() throws {
    let files = try export(["adapter": [adapter()]], parameters(base: "ASLP-lab/DiffRhythm2"))
    #expect(
      files.keys.sorted() == [
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors",
      ])
    let config = try JSON(parsing: Data(try #require(files["adapter_config.json"])))
    #expect(config["base_model_name_or_path"] == "ASLP-lab/DiffRhythm2")
    let front = try card(files).front
    #expect(front.contains("library_name: peft") && front.contains("base_model_relation: adapter"))
    #expect(front.contains("- \"lora\"") && !front.contains { $0.contains("model-index") })
    let kept = try SafetensorsFile(data: Data(try #require(files["adapter_model.safetensors"])))
    let given = try SafetensorsFile(data: Data(bytes("lora_adapter/adapter_model.safetensors")))
    for name in given.names { #expect(try kept.tensor(name) == given.tensor(name)) }
  }

  @Test func whatCannotBeExported() throws {
    #expect(throws: StageFailure.self) { try export([:], parameters()) }
    #expect(throws: StageFailure.self) { try export(["adapter": [adapter(), adapter()]], parameters()) }
  }

  @Test(
    arguments: [
      ("CC0-1.0", "cc0-1.0"), ("Apache-2.0", "apache-2.0"), ("PDDL-1.0", "pddl"),
      ("GPL-3.0-or-later", "gpl-3.0"),
      ("NOASSERTION", "unknown"), ("CC-BY-4.0 AND CC0-1.0", "other"), ("LicenseRef-mine", "other"),
      ("CC-PDDC", "other"),
    ])
  func licencesOfTheHub(spdx: String, hub: String) {
    let members = HubLicense.members(spdx)
    #expect(members.first?.key == "license" && members.first?.value == hub)
    #expect((members.count == 3) == (hub == "other"))
    if hub == "other" { #expect(members[1].value == spdx) }
  }
}
