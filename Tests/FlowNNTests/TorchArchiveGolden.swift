import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct TorchArchiveGolden {
  @Test func theDecoderHoldsTheGoldenWeights() throws {
    guard let archive = Golden.file("diffrhythm2/decoder_tiny.bin"),
      let expected = Golden.file("diffrhythm2/vocoder_tiny_weights.safetensors")
    else { return }
    let weights = try SafetensorsFile(path: expected.path)
    let torch = try TorchArchive(path: archive.path)
    #expect(torch.groups == ["generator"])
    let entries = try torch.entries(at: ["generator"])
    #expect(Set(entries.keys) == Set(weights.names))
    for (name, entry) in entries {
      let golden = try weights.tensor(name)
      #expect(try torch.tensor(entry, named: name).cast(to: golden.dtype) == golden, "\(name)")
    }
    let store = ParameterStore(CPUBackend())
    try store.load(torch, at: ["generator"])
    #expect(Set(store.names) == Set(weights.names))
  }
}
