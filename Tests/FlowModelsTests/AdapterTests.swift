import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct AdapterTests {
  private func output(
    _ settings: LowRank?, _ weights: [String: HostTensor] = [:], key: (Int32, Int32)? = nil
  ) throws -> HostTensor {
    let graph = Graph()
    let dropoutKey = try key.map { _ in try graph.input("key", [2], .int32) }
    let list = ParameterList(graph, adaptation: settings.map { Adaptation($0, dropoutKey: dropoutKey) })
    let x = try graph.input("x", [5, 8])
    let first = try Linear(list.scope["a"]["q_proj"], 8, 6)(x)
    let y = try Linear(list.scope["a"]["out"], 6, 3)(first)
    let store = ParameterStore(CPUBackend())
    for (name, value) in weights { try store.set(name, value) }
    try list.initialize(store, seed: 7)
    var inputs = ["x": try HostTensor((0..<40).map { Float($0 % 7) - 3 }, [5, 8])]
    if let key { inputs["key"] = try HostTensor([key.0, key.1], [2]) }
    return try #require(Program(graph, outputs: ["y": y], parameters: store).run(inputs)["y"])
  }

  private func up(_ value: Float, rank: Int = 4) throws -> [String: HostTensor] {
    ["a.q_proj.lora_B.weight": try HostTensor([Float](repeating: value, count: 6 * rank), [6, rank])]
  }

  @Test func aNewAdapterChangesNoBit() throws {
    let settings = LowRank(rank: 4, alpha: 8, targets: ["q_proj"], dropout: 0.3)
    #expect(try output(settings, key: (1, 2)) == output(nil))
  }

  @Test func theScaleIsByTheRankOrItsRoot() throws {
    let base = try output(nil).floats
    func change(_ stabilized: Bool) throws -> [Float] {
      let settings = LowRank(rank: 4, alpha: 8, targets: ["q_proj"], isStabilized: stabilized)
      return zip(try output(settings, up(0.5)).floats, base).map { $0 - $1 }
    }
    let (plain, stabilized) = (try change(false), try change(true))
    #expect(relativeError(stabilized, plain.map { $0 * 2 }) < 1e-5)
    #expect(plain.contains { abs($0) > 0.01 })
  }

  @Test func dropoutIsDrawnFromSeedAndStep() throws {
    let settings = LowRank(rank: 4, alpha: 8, targets: ["q_proj"], dropout: 0.5)
    let whole = try output(settings, up(0.5))
    let first = try output(settings, up(0.5), key: (1, 1))
    #expect(try output(settings, up(0.5), key: (1, 1)) == first)
    #expect(try output(settings, up(0.5), key: (1, 2)) != first)
    #expect(try output(settings, up(0.5), key: (2, 1)) != first)
    #expect(first != whole)
  }

  @Test func onlyTargetsAreAdaptedAndTrained() throws {
    let settings = LowRank(rank: 2, alpha: 2, targets: DiT.layers(["attention"]))
    let list = ParameterList(Graph(), adaptation: Adaptation(settings))
    for name in ["q_proj", "xq_proj", "q_proj.inner"] { _ = try Linear(list.scope["b"][name], 4, 4) }
    #expect(list.trainable.map(\.name) == ["b.q_proj.lora_A.weight", "b.q_proj.lora_B.weight"])
    #expect(DiT.layers(["feed_forward", "up_proj", "x"]) == ["gate_proj", "up_proj", "down_proj", "x"])
    #expect {
      try list.check(LowRank(rank: 2, alpha: 2, targets: ["q_porj"]))
    } throws: {
      "\($0)" == "the model has no linear layer 'q_porj'; its layers' names are inner, q_proj, xq_proj"
    }
  }

  private static let shapes = ["t.a.weight": [6, 8], "t.a.bias": [6], "t.b.weight": [4, 6]]

  private func adapter(rank: Int = 2, _ keys: [String]) throws -> Adapter {
    var weights: [String: HostTensor] = [:]
    for key in keys {
      let shape = key.contains("lora_A") ? [rank, 8] : [6, rank]
      weights[key] = try HostTensor([Float](repeating: 1, count: shape.reduce(1, *)), shape)
    }
    return Adapter(LowRank(rank: 2, alpha: 4, targets: ["a"]), base: "one/base", weights: weights)
  }

  /// A base in 16 bits takes a change that 16 bits could not hold.
  @Test func aNarrowBaseIsMergedInFloat32() throws {
    let change = Adapter(
      LowRank(rank: 1, alpha: 1, targets: ["a"]), base: nil,
      weights: [
        "t.a.lora_A.weight": try HostTensor([Float(1), 1], [1, 2]),
        "t.a.lora_B.weight": try HostTensor([Float(1e-4)], [1, 1]),
      ])
    let ones = try HostTensor([Float(1), 1], [1, 2]).cast(to: .bfloat16)
    let merged = try change.merged(into: ["t.a.weight": ones, "t.b.weight": ones], on: CPUBackend())
    #expect(merged["t.a.weight"] == (try HostTensor([Float(1.0001), 1.0001], [1, 2])))
    #expect(merged["t.b.weight"] == ones)
  }

  @Test func adaptersOfOtherModelsAreRefused() throws {
    let (a, b) = ("t.a.lora_A.weight", "t.a.lora_B.weight")
    func refusal(_ adapter: Adapter, named: String? = nil) -> String {
      do { _ = try adapter.fitted(to: AdapterTests.shapes, named: named) } catch { return "\(error)" }
      return ""
    }
    #expect(try refusal(adapter([a, b]), named: "one/base") == "")
    #expect(
      try refusal(adapter([a, b]), named: "another")
        == "the adapter was trained on 'one/base', but the base is 'another'")
    #expect(try refusal(adapter([a])) == "the adapter lacks 'base_model.model.t.a.lora_B.weight'")
    #expect(
      try refusal(adapter([]))
        == "the adapter lacks 'base_model.model.t.a.lora_A.weight', 'base_model.model.t.a.lora_B.weight'")
    #expect(
      try refusal(adapter([a, b, "t.c.lora_A.weight"]))
        == "the base has no linear layers for 'base_model.model.t.c.lora_A.weight': "
        + "the adapter is for another model")
    #expect(
      try refusal(adapter(rank: 3, [a, b]))
        == "'base_model.model.t.a.lora_A.weight' has shape [3, 8], but the base needs [2, 8]: "
        + "the adapter is for a model of other sizes")
  }

  @Test(arguments: [
    ("not json", "is not JSON"), ("[]", "no JSON object"), ("{}", "'peft_type' is missing"),
    (#"{"peft_type": "IA3"}"#, "only LORA is known"),
    (#"{"peft_type": "LORA", "use_dora": true}"#, "'use_dora' is true"),
    (#"{"peft_type": "LORA", "rank_pattern": {"q": 8}}"#, #"'rank_pattern' is {"q":8}"#),
    (#"{"peft_type": "LORA", "modules_to_save": ["x"]}"#, "'modules_to_save'"),
    (#"{"peft_type": "LORA", "bias": "all"}"#, "flow adapts no biases"),
    (#"{"peft_type": "LORA", "r": 0}"#, "'r' is 0, but a whole number from 1"),
    (#"{"peft_type": "LORA", "r": 2}"#, "'target_modules' is missing"),
    (#"{"peft_type": "LORA", "r": 2, "target_modules": [3]}"#, "a list of names is expected"),
    (#"{"peft_type": "LORA", "r": 2, "target_modules": ["q"], "lora_alpha": "x"}"#, "'lora_alpha' is \"x\""),
    (#"{"peft_type": "LORA", "r": 2, "target_modules": ["q"], "lora_dropout": 1}"#, "'lora_dropout' is 1"),
  ])
  func settingsThatCannotBeHonouredAreRefused(_ text: String, _ reason: String) throws {
    let folder = try TemporaryFolder()
    let good = try adapter(["t.a.lora_A.weight", "t.a.lora_B.weight"])
    try good.write(to: folder.path)
    #expect(try Adapter(folder: folder.path).settings == good.settings)
    try folder.write(Adapter.configFile, text)
    #expect { try Adapter(folder: folder.path) } throws: { "\($0)".contains(reason) }
  }

  @Test func foldersWithoutAFileOrWithForeignKeysAreRefused() throws {
    let folder = try TemporaryFolder()
    #expect {
      try Adapter(folder: folder.path)
    } throws: {
      "\($0)" == "\(folder.path) has no adapter_config.json"
    }
    try adapter(["t.a.lora_A.weight", "t.a.lora_B.weight"]).write(to: folder.path)
    let tensors = ["t.a.lora_A.weight": try HostTensor([Float](), [0])]
    try folder.write(Adapter.weightsFile, Data(Safetensors.encode(tensors)))
    #expect(throws: AdapterError.unexpected(keys: ["t.a.lora_A.weight"])) { try Adapter(folder: folder.path) }
  }
}
