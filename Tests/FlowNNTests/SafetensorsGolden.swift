import FlowCore
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTestSupport
import Foundation
import Testing

@Suite struct SafetensorsGolden {
  /// Why each file is refused: a part of the message. What the reference accepts and we don't is among them on purpose:
  /// the duplicate names, the unknown field, and the rank of 1000.
  static let reasons: [String: String] = [
    "empty_file": "ends before its header", "seven_bytes": "ends before its header",
    "header_len_only": "ends before its header", "header_len_zero": "an object was expected",
    "header_len_u64max": "over the limit", "header_len_100_000_000_short": "ends before its header",
    "header_len_100_000_001": "over the limit", "header_len_past_eof": "ends before its header",
    "header_non_utf8": "an object was expected", "header_truncated_json": "a string was expected",
    "header_array": "an object was expected", "header_null": "an object was expected",
    "header_bom": "an object was expected", "header_trailing_garbage": "something follows",
    "header_two_objects": "something follows", "header_nul_padding": "something follows",
    "deep_nesting_10000": "an object was expected", "dup_tensor_key": "occurs twice",
    "dup_metadata_key": "occurs twice", "dup_key_inside_metadata": "occurs twice",
    "dup_dtype_field": "occurs twice", "unknown_field_in_tensor": "unknown field",
    "missing_shape": "needs dtype, shape", "missing_offsets": "needs dtype, shape",
    "three_offsets": "two data_offsets", "unknown_dtype": "unknown type 'I7'",
    "lowercase_dtype": "unknown type 'i32'", "metadata_nonstring_value": "a string was expected",
    "metadata_not_object": "an object was expected", "negative_offset": "an unsigned integer",
    "negative_dim": "an unsigned integer", "float_dim": "']' was expected", "exp_dim_4e0": "']' was expected",
    "string_dim": "an unsigned integer", "offset_reversed": "leaves a hole", "offset_past_eof": "the file at",
    "shape_dtype_size_mismatch": "by its shape", "overlap_identical_10x": "overlaps another",
    "overlap_partial": "overlaps another", "hole_at_start": "leaves a hole",
    "hole_in_middle": "leaves a hole",
    "trailing_bytes_polyglot": "the file at", "missing_2_bytes": "the file at",
    "shape_mul_overflow": "too large", "shape_x_size_overflow": "overflows", "dim_over_u64": "too large",
    "overflow_times_zero": "too large", "lone_surrogate_escape": "surrogate", "rank_1000": "more than 64",
    "f4_misaligned_1x3": "by its shape",
  ]

  @Test func hostileFilesAreRefusedForTheRightReasonAndGoodOnesRead() throws {
    guard let list = Golden.file("safetensors/verdicts.json") else { return }
    let verdicts = try JSON(parsing: Data(contentsOf: list))
    guard case .array(let cases)? = verdicts["cases"] else { return }
    let files = Golden.files(in: "safetensors", suffix: ".safetensors")
    #expect(files.count >= 67 && cases.count == files.count)
    var refused = Set<String>()
    for test in cases {
      guard let name = test["case"]?.text,
        let file = files.first(where: { $0.dropFirst(3) == name + ".safetensors" })
      else { continue }
      let path = Golden.root.appendingPathComponent("safetensors/" + file).path
      do throws(SafetensorsError) {
        let file = try SafetensorsFile(path: path)
        #expect(SafetensorsGolden.reasons[name] == nil, "\(name) was read")
        for tensor in file.names { try? file.withBytes(tensor) { #expect($0.count < 1 << 20) } }
      } catch {
        refused.insert(name)
        let reason = SafetensorsGolden.reasons[name]
        #expect(reason.map { "\(error)".contains($0) } == true, "\(name): \(error)")
      }
      let strict = ["dup_tensor_key", "dup_key_inside_metadata", "unknown_field_in_tensor", "rank_1000"]
      if !strict.contains(name) {
        #expect(refused.contains(name) == (test["deserialize"]?.text == "REJECT"), "\(name)")
      }
    }
    #expect(refused == Set(SafetensorsGolden.reasons.keys))
  }
}

@Suite struct SafetensorsTests {
  @Test func aRoundTripKeepsEveryByteAndReshardingToo() throws {
    var random = Philox(seed: 1)
    var tensors: [String: HostTensor] = [:]
    for (i, shape) in [[3, 4], [], [0, 5], [7], [2, 1, 6]].enumerated() {
      tensors["layer.\(i).\"weight\"\n"] = try HostTensor(
        (0..<shape.reduce(1, *)).map { _ in Float(random.normal()) }, shape)
    }
    let bytes = Safetensors.encode(tensors, metadata: ["format": "pt", "note": "é\"\u{1}"])
    let file = try SafetensorsFile(data: Data(bytes))
    #expect(file.metadata == ["format": "pt", "note": "é\"\u{1}"])
    var back: [String: HostTensor] = [:]
    for name in file.names { back[name] = try file.tensor(name) }
    #expect(back == tensors)
    #expect(Safetensors.encode(back, metadata: file.metadata) == bytes)

    let (shards, index) = Safetensors.shards(tensors, limit: 40)
    #expect(shards.count > 1)
    var joined: [String: HostTensor] = [:]
    for shard in shards {
      let part = try SafetensorsFile(data: Data(shard.bytes))
      for name in part.names {
        #expect(try JSON(parsing: index.utf8)["weight_map"]?[name]?.text == shard.name)
        joined[name] = try part.tensor(name)
      }
    }
    #expect(Safetensors.encode(joined, metadata: ["format": "pt", "note": "é\"\u{1}"]) == bytes)
  }

  @Test func everyTruncationIsRefused() throws {
    let bytes = Safetensors.encode(["a": try HostTensor([1, 2, 3] as [Float], [3])])
    for count in 0..<bytes.count {
      #expect(throws: SafetensorsError.self) { try SafetensorsFile(data: Data(bytes[..<count])) }
    }
  }

  @Test func flippedBytesNeverCrash() throws {
    let bytes = Safetensors.encode([
      "a": try HostTensor([1, 2, 3] as [Float], [3]), "b": try HostTensor([4] as [Float], [1]),
    ])
    var random = Philox(seed: 9)
    for _ in 0..<20_000 {
      var mutated = bytes
      for _ in 0..<1 + Int(random.uniform() * 3) {
        mutated[Int(random.uniform() * Double(mutated.count))] = UInt8(truncatingIfNeeded: random.word())
      }
      if let file = try? SafetensorsFile(data: Data(mutated)) {
        for name in file.names { _ = try? file.tensor(name) }
      }
    }
  }

  @Test func aFileCutShortWhileItIsReadIsAnErrorNotACrash() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/a.safetensors"
    let count = 1 << 16
    try Safetensors.write(["a": HostTensor([Float](repeating: 1, count: count), [count])], to: path)
    let file = try SafetensorsFile(path: path)
    #expect(try file.tensor("a").floats.allSatisfy { $0 == 1 })
    truncate(path, 8192)
    #expect(throws: SafetensorsError.cutShort) { try file.tensor("a") }
    #expect(throws: SafetensorsError.cutShort) { try ParameterStore(CPUBackend()).load(file) }
    // A new look finds the file as it is now; another file is as whole as ever.
    #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: path) }
    try Safetensors.write(["b": HostTensor([2] as [Float], [1])], to: path)
    #expect(try SafetensorsFile(path: path).tensor("b").floats == [2])
  }

  @Test func aStoreTakesWeightsFromAFileOfAnyAlignmentAndType() throws {
    let header =
      #"{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"f":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}}"#
    var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + header.utf8
    bytes +=
      [0x00, 0x3C]
      + [Float(0.5), -3].flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian) { Array($0) } }
    let folder = try TemporaryFolder()
    try Data(bytes).write(to: URL(fileURLWithPath: folder.path + "/a.safetensors"))
    let store = ParameterStore(CPUBackend())
    try store.load(SafetensorsFile(path: folder.path + "/a.safetensors"))
    #expect(try store.get("h").floats == [1] && store.get("f").floats == [0.5, -3])
    try store.set("g", HostTensor([0, 0, 0] as [Float], [3]))
    let other = try SafetensorsFile(
      data: Data(Safetensors.encode(["g": HostTensor([1, 2] as [Float], [2])])))
    #expect(throws: TensorError.self) { try store.load(other) }
  }

  @Test func sixteenBitWeightsStaySoWhenAsked() throws {
    let (wide, mask) = (try HostTensor([0.1, -3, 7e4] as [Float], [3]), try HostTensor([true, false], [2]))
    for type in [DType.bfloat16, .float16] {
      let file = try SafetensorsFile(
        data: Data(Safetensors.encode(["w": wide.cast(to: type), "f": wide, "m": mask])))
      #expect(file.storage("w") == type && file.storage("m") == .bool)
      let (kept, widened) = (ParameterStore(CPUBackend()), ParameterStore(CPUBackend()))
      try kept.load(file, keeping: [.float32, type])
      try widened.load(file)
      #expect(try kept.get("w") == wide.cast(to: type) && kept.get("f") == wide)
      #expect(try widened.get("w") == wide.cast(to: type).cast(to: .float32))
      // A store that has it keeps its own type.
      try widened.load(file, keeping: [type])
      try kept.load(SafetensorsFile(data: Data(Safetensors.encode(["w": wide]))))
      #expect(widened.dtype("w") == .float32 && kept.dtype("w") == type)
    }
  }

  /// Weights that are read where they lie: the same numbers, nothing written there, and no result from what is gone.
  @Test func borrowedWeightsAreOnlyRead() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/w.safetensors"
    let values = try HostTensor((0..<64).map { Float($0) - 9 }, [8, 8])
    let more = try HostTensor([Float](repeating: 1, count: 8192), [8192])
    try Safetensors.write(["b": values.cast(to: .bfloat16), "f": values, "z": more], to: path)
    let store = ParameterStore(CPUBackend(threads: 2))
    let file = try SafetensorsFile(path: path)
    try store.load(file, keeping: [.float32, .bfloat16], borrowing: true)
    let graph = Graph()
    let b = try graph.parameter("b", [8, 8], .bfloat16)
    let (f, z) = (try graph.parameter("f", [8, 8]), try graph.parameter("z", [8192]))
    let sum = try (b.matmul(f)).total() + z.total()
    let program = try Program(graph, outputs: ["sum": sum], parameters: store)
    let owned = ParameterStore(CPUBackend(threads: 2))
    try owned.load(file, keeping: [.float32, .bfloat16])
    let copied = try Program(graph, outputs: ["sum": sum], parameters: owned)
    #expect(try program.run() == copied.run())
    #expect(try store.get("f") == values)
    #expect(throws: TensorError.self) { try store.set("f", values) }
    #expect(throws: TensorError.self) { try store.load(file, borrowing: true) }
    let other = Graph()
    let p = try other.parameter("f", [8, 8])
    try other.assign(p, p + 1)
    #expect(throws: TensorError.self) { try Program(other, outputs: [:], parameters: store) }
    #expect(truncate(path, 4096) == 0)
    let error = #expect(throws: TensorError.self) { try program.run() }
    #expect(error?.description.contains("cut short") == true, "\(String(describing: error))")
  }

  @Test func shardsAreThereWhenTheirIndexIs() throws {
    let folder = try TemporaryFolder()
    let tensors = try Dictionary(
      uniqueKeysWithValues: (0..<5).map { ("w\($0)", try HostTensor([Float($0), 1], [2])) })
    try Safetensors.writeShards(tensors, limit: 16, to: folder.path)
    let index = try JSON(
      parsing: Data(contentsOf: URL(fileURLWithPath: folder.path + "/model.safetensors.index.json")))
    #expect(index["metadata"]?["total_size"]?.number == 40)
    for (name, value) in tensors {
      let shard = try #require(index["weight_map"]?[name]?.text)
      #expect(try SafetensorsFile(path: folder.path + "/" + shard).tensor(name) == value)
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names.count == 4 && names.allSatisfy { !$0.hasSuffix(".tmp") })
  }
}
