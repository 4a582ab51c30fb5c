import FlowCore
import FlowNN
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

/// The commands that read and write weights, on the golden files.
@Suite struct WeightsGolden {
  private func tensors(_ path: String) throws -> [String: HostTensor] {
    let file = try SafetensorsFile(path: path)
    var result: [String: HostTensor] = [:]
    for name in file.names { result[name] = try file.tensor(name) }
    return result
  }

  private func isClose(_ a: HostTensor?, _ b: HostTensor) -> Bool {
    guard let a, a.shape == b.shape else { return false }
    let pairs = zip(a.floats, b.floats)
    let error = pairs.reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    return error <= 1e-12 * b.floats.reduce(0) { $0 + Double($1) * Double($1) }
  }

  @Test func theDecoderIsConverted() throws {
    guard let archive = Golden.file("diffrhythm2/decoder_tiny.bin"),
      let expected = Golden.file("diffrhythm2/vocoder_tiny_weights.safetensors")
    else { return }
    let flow = try Shell(bare: true)
    let done = try flow("convert", archive.path, "out/of/none.safetensors")
    #expect(done.code == 1 && done.error.contains("out/of/none.safetensors"))
    #expect(try flow("convert", archive.path, "decoder.safetensors").code == 0)
    let weights = try tensors(flow.folder.path + "/decoder.safetensors")
    #expect(weights == (try tensors(expected.path)))
    // From safetensors too, folded.
    let folded = try flow("convert", "decoder.safetensors", "folded.safetensors", "--fold", "--json")
    let document = try JSON(parsing: Data(folded.out.utf8))
    let pairs = weights.keys.count { $0.hasSuffix(".weight_g") }
    #expect(document["tensors"] == .int(weights.count - pairs))
    if let fused = Golden.file("diffrhythm2/vocoder_tiny_fused.safetensors") {
      let all = try tensors(flow.folder.path + "/folded.safetensors")
      for (name, tensor) in try tensors(fused.path) { #expect(isClose(all[name], tensor), "\(name)") }
    }
    let wrong = try flow("convert", archive.path, "x.safetensors", "--group", "discriminator")
    #expect(wrong.code == 2 && wrong.error.contains("the file has no 'discriminator'; it has generator"))
    #expect(flow.folder.read("x.safetensors") == nil)
  }

  @Test func adaptersAreMergedAndStacked() throws {
    guard let base = Golden.file("diffrhythm2/dit_tiny_weights.safetensors"),
      let merged = Golden.file("diffrhythm2/lora_merged_weights.safetensors"),
      let config = Golden.file("diffrhythm2/lora_adapter/adapter_config.json")
    else { return }
    let (flow, adapter) = (try Shell(bare: true), config.deletingLastPathComponent().path)
    let looked = try flow("adapter", "inspect", adapter, "--base", base.path)
    #expect(looked.code == 0 && looked.out.contains("; fits "))
    #expect(try flow("adapter", "merge", base.path, "merged.safetensors", adapter).code == 0)
    let expected = try tensors(merged.path)
    let once = try tensors(flow.folder.path + "/merged.safetensors")
    for (name, tensor) in expected { #expect(isClose(once[name], tensor), "\(name)") }
    // A quarter and three quarters of it are all of it, as one adapter or one after another.
    let parts = [adapter + "=0.25", adapter + "=0.75"]
    #expect(try flow.run(["adapter", "stack", "both"] + parts).code == 0)
    #expect(try flow("adapter", "merge", base.path, "stacked.safetensors", "both").code == 0)
    #expect(try flow.run(["adapter", "merge", base.path, "twice.safetensors"] + parts).code == 0)
    for file in ["stacked", "twice"] {
      let all = try tensors(flow.folder.path + "/\(file).safetensors")
      for (name, tensor) in expected { #expect(isClose(all[name], tensor), "\(file) \(name)") }
    }
    // Taken away again, nothing is left of it.
    #expect(try flow("adapter", "merge", base.path, "none.safetensors", adapter + "=0").code == 0)
    #expect(try tensors(flow.folder.path + "/none.safetensors") == tensors(base.path))
  }

  @Test func whatIsNoModelIsRefused() throws {
    let flow = try Shell(bare: true)
    try flow.folder.write("text.bin", "hello, this is text")
    try flow.folder.write("a.index.json", "{\"weight_map\": {\"w\": \"../up.safetensors\"}}")
    for (arguments, reason) in [
      (["convert", "text.bin", "o"], "text.bin: "), (["convert", "nothing.bin", "o"], "no such file"),
      (["convert", "a.index.json", "o"], "'w' is in no file beside the index"),
      (["adapter", "inspect", "nothing"], "nothing has no adapter_config.json"),
      (["adapter", "inspect", "x=much"], "'x=much' is no adapter"),
    ] {
      let result = try flow.run(arguments)
      #expect(result.code == 2 && result.error.contains(reason), "\(arguments): \(result.error)")
      #expect(result.out.isEmpty)
    }
  }

  /// A device or a pipe that is named as the output stays what it is: a rename would put a file in its place.
  @Test func onlyFilesAreReplaced() throws {
    let flow = try Shell(bare: true)
    try Safetensors.write(["w": HostTensor([1, 2] as [Float], [2])], to: flow.folder.path + "/a.safetensors")
    let pipe = flow.folder.path + "/pipe"
    #expect(mkfifo(pipe, 0o600) == 0)
    try flow.folder.write("folder/x", "")
    for (name, reason) in [("pipe", "it is no file"), ("folder", "it is a folder")] {
      let result = try flow("convert", "a.safetensors", name)
      #expect(result.code == 1 && result.error.contains(reason), "\(result.error)")
    }
    var found = stat()
    #expect(lstat(pipe, &found) == 0 && found.st_mode & S_IFMT == S_IFIFO)
    #expect(try flow("convert", "a.safetensors", "b.safetensors").code == 0)
    #expect(try flow("convert", "a.safetensors", "b.safetensors").code == 0)
  }

  /// Types stay as they are.
  @Test func shardsAreJoined() throws {
    let flow = try Shell(bare: true)
    var all: [String: HostTensor] = [:]
    for (i, type) in [DType.float32, .bfloat16, .float16, .int32, .bool].enumerated() {
      all["t\(i)"] = try HostTensor((0..<10).map { Float($0 % 3) }, [10]).cast(to: type)
    }
    try Safetensors.writeShards(all, limit: 50, to: flow.folder.path)
    #expect(try flow("convert", "model.safetensors.index.json", "one.safetensors").code == 0)
    let file = try SafetensorsFile(path: flow.folder.path + "/one.safetensors")
    #expect(file.names == all.keys.sorted())
    for (name, tensor) in all { #expect(try file.stored(name) == tensor, "\(name)") }
  }
}
