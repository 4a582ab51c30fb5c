import FlowNN
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

@Suite struct TorchArchiveTests {
  private func open(_ pickle: [UInt8], _ storages: [String: [UInt8]]? = nil) throws -> TorchArchive {
    let zip = storages.map { ZipBuilder(pickle, $0) } ?? ZipBuilder(pickle)
    return try TorchArchive(data: Data(zip.bytes))
  }

  private func refusal(_ pickle: [UInt8]) -> String {
    do { _ = try open(pickle) } catch { return error is TorchError ? "\(error)" : "untyped: \(error)" }
    return "accepted"
  }

  private func valid(_ builder: inout PickleBuilder) {
    builder.tensor("0", count: 6, shape: [2, 3], strides: [3, 1])
  }

  private static let numbers = (0..<6).flatMap { i in withUnsafeBytes(of: Float(i).bitPattern) { Array($0) } }

  @Test(arguments: 0...5) func everyProtocolIsRead(_ version: Int) throws {
    let archive = try open(PickleBuilder.file(version, valid), ["0": TorchArchiveTests.numbers])
    let entries = try archive.entries()
    #expect(entries["w"]?.shape == [2, 3])
    let tensor = try archive.tensor(#require(entries["w"]), named: "w")
    #expect(tensor == (try HostTensor((0..<6).map(Float.init), [2, 3])))
  }

  @Test func viewsParametersAndTypesAreRebuilt() throws {
    func value(_ type: String, _ bytes: [UInt8], _ body: (inout PickleBuilder) -> Void) throws -> HostTensor {
      let archive = try open(PickleBuilder.file(2, body), ["0": bytes])
      return try archive.tensor(#require(archive.entries()["w"]), named: "w")
    }
    let transposed = try value("Float", TorchArchiveTests.numbers) {
      $0.tensor("0", count: 6, offset: 1, shape: [2, 2], strides: [1, 3])
    }
    #expect(transposed.floats == [1, 4, 2, 5])
    let parameter = try value("Float", TorchArchiveTests.numbers) {
      $0.global("torch._utils", "_rebuild_parameter")
      $0.tuple {
        $0.tensor("0", count: 6, shape: [6], strides: [1])
        $0.code(0x88)
        $0.orderedDictionary()
      }
      $0.code(0x52)
    }
    #expect(parameter.floats == [0, 1, 2, 3, 4, 5])
    for (type, bytes, expected) in [
      ("BFloat16", [0x80, 0x3F, 0x00, 0xC0], [1, -2]), ("Half", [0x00, 0x3C, 0x00, 0xC0], [1, -2]),
      ("Short", [1, 0, 0xFE, 0xFF], [1, -2]), ("Char", [1, 0xFE], [1, -2]), ("Byte", [1, 0xFE], [1, 254]),
      ("Bool", [1, 0], [1, 0]), ("Int", [1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF], [1, -2]),
      ("Long", [1, 0, 0, 0, 0, 0, 0, 0, 0xFE] + [UInt8](repeating: 0xFF, count: 7), [1, -2]),
      ("Double", [0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 0, 0, 0, 0, 0, 0, 0, 0xC0], [1, -2]),
    ] as [(String, [UInt8], [Float])] {
      let tensor = try value(type, bytes) {
        $0.tensor("0", count: 2, type: type, shape: [2], strides: [1])
      }
      #expect(tensor.floats == expected, "\(type)")
    }
    #expect(throws: TorchError.tensor("w", problem: "the integer 4294967296 is too large for 32 bits")) {
      try value("Long", [0, 0, 0, 0, 1, 0, 0, 0]) {
        $0.tensor("0", count: 1, type: "Long", shape: [1], strides: [1])
      }
    }
  }

  /// Functions and types that attackers name, and some of torch's own that flow has no need of.
  private static let foreign = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "getattr"), ("__builtin__", "eval"), ("subprocess", "Popen"), ("runpy", "run_path"),
    ("torch", "load"), ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_device_tensor"),
    ("torch.serialization", "load"), ("torch.storage", "_load_from_bytes"), ("collections", "Counter"),
    ("codecs", "decode"), ("functools", "partial"), ("operator", "attrgetter"), ("torch", "EvilStorage"),
    ("torch", "Storage"), ("numpy.core.multiarray", "_reconstruct"), ("collections", "OrderedDict.pop"),
  ]

  @Test func foreignNamesAreRefusedInEveryProtocolAndForm() {
    var count = 0
    for version in 0...5 {
      for (module, name) in TorchArchiveTests.foreign {
        // GLOBAL (or STACK_GLOBAL) and REDUCE.
        let called = PickleBuilder.file(version) {
          $0.global(module, name)
          $0.tuple { $0.text("echo") }
          $0.code(0x52)
        }
        let form = version >= 4 ? "STACK_GLOBAL" : "GLOBAL"
        let text = refusal(called)
        #expect(text.hasPrefix("data.pkl, \(form) at byte "), "\(text)")
        #expect(text.contains("it names '\(module).\(name)'"), "\(text)")
        // INST, which needs no GLOBAL.
        let made = PickleBuilder.file(version) {
          $0.code(0x28)
          $0.text("echo")
          $0.raw("i\(module)\n\(name)\n".utf8)
        }
        #expect(refusal(made).hasPrefix("data.pkl, INST at byte "))
        #expect(refusal(made).contains("'\(module).\(name)'"))
        count += 2
      }
    }
    #expect(count >= 200)
  }

  @Test func instructionsThatMakeObjectsAreRefused() {
    let known: (inout PickleBuilder) -> Void = { $0.global("collections", "OrderedDict") }
    for version in 0...5 {
      var cases: [(String, [UInt8])] = []
      func add(_ name: String, _ value: @escaping (inout PickleBuilder) -> Void) {
        cases.append((name, PickleBuilder.file(version, value)))
      }
      add("OBJ") {
        $0.code(0x28)
        known(&$0)
        $0.code(0x6F)
      }
      add("NEWOBJ") {
        known(&$0)
        $0.tuple { _ in }
        $0.code(0x81)
      }
      add("NEWOBJ_EX") {
        known(&$0)
        $0.tuple { _ in }
        $0.code(0x7D, 0x92)
      }
      add("BUILD") {
        $0.tensor("0", count: 6, shape: [6], strides: [1])
        $0.code(0x28, 0x64, 0x62)
      }
      add("BUILD") {
        $0.orderedDictionary()
        $0.dictionary("__class__") { $0.int(1) }
        $0.code(0x62)
      }
      add("REDUCE") {
        known(&$0)
        $0.tuple { $0.tuple { _ in } }
        $0.code(0x52)
      }
      add("REDUCE") {
        $0.global("torch", "FloatStorage")
        $0.tuple { $0.int(1 << 40) }
        $0.code(0x52)
      }
      add("REDUCE") {
        $0.text("os.system")
        $0.tuple { $0.text("echo") }
        $0.code(0x52)
      }
      add("PERSID") { $0.raw("Pmodule os\n".utf8) }
      add("BINPERSID") {
        $0.text("storage")
        $0.code(0x51)
      }
      for (name, bytes) in [
        ("EXT1", [0x82, 1]), ("EXT2", [0x83, 1, 0]), ("EXT4", [0x84, 1, 0, 0, 0]), ("EMPTY_SET", [0x8F]),
        ("NEXT_BUFFER", [0x97]), ("BINBYTES", [0x42, 0, 0, 0, 0]), ("SHORT_BINBYTES", [0x43, 0]),
        ("STRING", Array("S'x'\n".utf8)), ("BYTEARRAY8", [0x96]), ("FROZENSET", [0x28, 0x91]),
        ("instruction 0xff", [0xFF]),
      ] as [(String, [UInt8])] {
        add(name) { $0.raw(bytes) }
      }
      for (name, pickle) in cases {
        #expect(refusal(pickle).hasPrefix("data.pkl, \(name) at byte "), "\(version): \(refusal(pickle))")
      }
    }
  }

  @Test func tensorsAndStoragesThatLieAreRefused() {
    func tensor(
      key: String = "0", count: Int = 6, type: String = "Float", offset: Int = 0, _ shape: [Int],
      _ strides: [Int]
    ) -> String {
      refusal(
        PickleBuilder.file(2) {
          $0.tensor(key, count: count, type: type, offset: offset, shape: shape, strides: strides)
        })
    }
    #expect(tensor([2, 3], [3, 1]) == "accepted")
    #expect(tensor(key: "1", [6], [1]) == "the archive has no entry 'any/data/1'")
    #expect(tensor(key: "../../etc/passwd", [6], [1]).contains("no entry"))
    #expect(
      tensor(count: 7, [6], [1])
        == "the entry 'any/data/0' has 24 bytes, but the pickle says 7 elements of 4")
    #expect(tensor(count: 1 << 46, [6], [1]).contains("but the pickle says"))
    #expect(tensor(type: "Double", [6], [1]).contains("6 elements of 8"))
    for (shape, strides, offset, reason) in [
      ([7], [1], 0, "reaches out of its storage"), ([6], [1], 1, "reaches out of its storage"),
      ([2], [6], 0, "reaches out"), ([6], [1], -1, "reaches out"), ([6], [-1], 5, "none negative"),
      ([-1], [1], 0, "none negative"), ([6], [], 0, "1 dimensions and 0 strides"),
      ([1 << 40], [0], 0, "repeats those of its storage"), ([1 << 47, 1 << 47], [0, 0], 0, "overflows"),
      ([1 << 50], [0], 0, "beyond 2"),
      (Array(repeating: 1, count: 65), Array(repeating: 1, count: 65), 0, "64"),
    ] as [([Int], [Int], Int, String)] {
      let text = tensor(offset: offset, shape, strides)
      #expect(text.hasPrefix("data.pkl, REDUCE at byte ") && text.contains(reason), "\(shape): \(text)")
    }
    let hooked = PickleBuilder.file(2) {
      $0.tensor("0", count: 6, shape: [6], strides: [1]) { $0.dictionary("hook") { $0.int(1) } }
    }
    #expect(refusal(hooked).contains("a tensor with hooks"))
  }

  @Test func brokenPicklesAreRefused() throws {
    let good = PickleBuilder.file(4, valid)
    for length in 0..<good.count {
      let text = refusal(Array(good[..<length]))
      #expect(text.hasPrefix("data.pkl, "), "cut at \(length): \(text)")
    }
    #expect(refusal(good + [0x2E]).contains("STOP at byte \(good.count - 1): 1 bytes follow it"))
    for (bytes, reason) in [
      ([0x80, 6], "protocol 6 is unknown"), ([0x4E, 0x80, 2], "it is not the first"),
      ([0x95, 0xFF, 0, 0, 0, 0, 0, 0, 0], "a frame of 255 bytes"), ([0x30], "nothing on the stack"),
      ([0x74], "there is no mark"), ([0x68, 9], "nothing was put at place 9"),
      ([0x4E, 0x61], "nothing on the"),
      ([0x4E, 0x4E, 0x61], "no list"), ([0x4E, 0x4E, 0x4E, 0x73], "no dictionary"),
      ([0x7D, 0x28, 0x4E, 0x75], "a key has no value"), ([0x8A, 9], "longer than 8"),
      ([0x8B, 0xFF, 0xFF, 0xFF, 0xFF], "longer than 8"),
      ([0x58, 0xFF, 0xFF, 0xFF, 0x7F], "bytes are wanted"),
      ([0x8D] + [UInt8](repeating: 0xFF, count: 8), "a length of"), ([0x58, 1, 0, 0, 0, 0xFF], "not UTF-8"),
      (Array("Ix\n".utf8), "'x' is no integer"), (Array("L99999999999999999999L\n".utf8), "no integer"),
      (Array("I1".utf8), "its line does not end"), (Array("cos\nsystem".utf8), "its line does not end"),
      ([0x28] + Array("V\\u0041\n".utf8), "a string with escapes"), (Array("g-1\n".utf8), "nothing was put"),
      (Array("p-1\n".utf8), "no place"),
    ] as [([UInt8], String)] {
      #expect(refusal(bytes).contains(reason), "\(bytes): \(refusal(bytes))")
    }
    // A value within itself, and nesting a thousand times deeper than a stack of calls could follow.
    #expect(refusal([0x7D, 0x71, 0, 0x4E, 0x68, 0, 0x73, 0x2E]) == "accepted")
    let deep = [0x29] + [UInt8](repeating: 0x85, count: 900_000) + [0x2E]
    #expect(refusal(deep) == "accepted")
    #expect(throws: TorchError.archive("the file is no dictionary of tensors")) { try open(deep).entries() }
    #expect(refusal([UInt8](repeating: 0x4E, count: 1_100_000)).contains("more than 1048576 values"))
    #expect(
      refusal([UInt8](repeating: 0x7D, count: 17 << 20)).contains("more than the 16777216 that are read"))
  }

  @Test func groupsAreFoundByName() throws {
    let pickle = PickleBuilder.file(2) { $0.dictionary("inner") { self.valid(&$0) } }
    let archive = try open(pickle)
    #expect(archive.groups == ["w"])
    #expect(Array(try archive.entries(at: ["w"]).keys) == ["inner"])
    #expect(throws: TorchError.archive("the file has no 'x'; it has w")) { try archive.entries(at: ["x"]) }
    #expect(throws: TorchError.archive("'w' has no 'x'; it has inner")) {
      try archive.entries(at: ["w", "x"])
    }
    #expect(try archive.entries().isEmpty)
    let twice = PickleBuilder.file(2) {
      self.valid(&$0)
      $0.code(0x73)
      $0.text("w")
      self.valid(&$0)
    }
    #expect(throws: TorchError.archive("the tensor 'w' occurs twice")) { try open(twice).entries() }
  }
}
