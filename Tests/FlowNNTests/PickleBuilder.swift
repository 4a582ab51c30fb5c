import CZlib
import Foundation

/// Writes pickles of any protocol, and archives around them, as torch.save does or as an attacker would.
struct PickleBuilder {
  /// 0 to 5.
  let version: Int
  private(set) var bytes: [UInt8] = []

  init(_ version: Int) {
    self.version = version
    if version >= 2 { bytes = [0x80, UInt8(version)] }
  }

  mutating func code(_ codes: UInt8...) { bytes += codes }

  mutating func raw(_ more: some Sequence<UInt8>) { bytes += more }

  private static func little(_ value: Int, _ size: Int) -> [UInt8] {
    (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  mutating func text(_ text: String) {
    if version == 0 {
      raw("V\(text)\n".utf8)
    } else if version >= 4, text.utf8.count < 256 {
      code(0x8C, UInt8(text.utf8.count))
      raw(text.utf8)
    } else {
      code(0x58)
      raw(PickleBuilder.little(text.utf8.count, 4) + text.utf8)
    }
  }

  mutating func int(_ value: Int) {
    if version == 0 {
      raw("I\(value)\n".utf8)
    } else if (0..<256).contains(value) {
      code(0x4B, UInt8(value))
    } else if Int32(exactly: value) != nil {
      code(0x4A)
      raw(PickleBuilder.little(value, 4))
    } else if version >= 2 {
      code(0x8A, 8)
      raw(PickleBuilder.little(value, 8))
    } else {
      raw("L\(value)L\n".utf8)
    }
  }

  mutating func global(_ module: String, _ name: String) {
    if version >= 4 {
      text(module)
      text(name)
      code(0x93)
    } else {
      raw("c\(module)\n\(name)\n".utf8)
    }
  }

  /// A tuple of what `body` pushes.
  mutating func tuple(_ body: (inout PickleBuilder) -> Void) {
    code(0x28)
    body(&self)
    code(0x74)
  }

  mutating func orderedDictionary() {
    global("collections", "OrderedDict")
    tuple { _ in }
    code(0x52)
  }

  /// A storage of the archive; the type is one of torch's names.
  mutating func storage(_ key: String, _ count: Int, _ type: String = "Float") {
    tuple {
      $0.text("storage")
      $0.global("torch", type + "Storage")
      $0.text(key)
      $0.text("cpu")
      $0.int(count)
    }
    code(0x51)
  }

  /// A tensor of the storage `key` that holds `count` elements.
  mutating func tensor(
    _ key: String, count: Int, type: String = "Float", offset: Int = 0, shape: [Int], strides: [Int],
    hooks: (inout PickleBuilder) -> Void = { $0.orderedDictionary() }
  ) {
    global("torch._utils", "_rebuild_tensor_v2")
    tuple {
      $0.storage(key, count, type)
      $0.int(offset)
      $0.tuple { inner in for size in shape { inner.int(size) } }
      $0.tuple { inner in for stride in strides { inner.int(stride) } }
      if $0.version >= 2 { $0.code(0x89) } else { $0.raw("I00\n".utf8) }
      hooks(&$0)
    }
    code(0x52)
  }

  /// A dictionary with one item, and the end.
  mutating func dictionary(_ key: String, _ value: (inout PickleBuilder) -> Void) {
    code(0x28, 0x64)
    text(key)
    value(&self)
    code(0x73)
  }

  /// The pickle of `{"w": VALUE}`.
  static func file(_ version: Int, _ value: (inout PickleBuilder) -> Void) -> [UInt8] {
    var builder = PickleBuilder(version)
    builder.dictionary("w", value)
    builder.code(0x2E)
    return builder.bytes
  }
}

/// A zip of stored entries; what is wrong with it is up to the caller.
struct ZipBuilder {
  struct Entry {
    var name: String
    var data: [UInt8]
    var method = 0
    var flags = 0
    /// Said instead of the true ones.
    var size: Int?
    var checksum: UInt32?
    var offset: Int?
    var localName: String?
    /// Sizes are in a zip64 field.
    var isWide = false
  }

  var entries: [Entry]
  var isWide = false
  var trailer: [UInt8] = []

  var bytes: [UInt8] {
    func u(_ value: Int, _ size: Int) -> [UInt8] {
      (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    var (result, directory): ([UInt8], [UInt8]) = ([], [])
    for entry in entries {
      let start = entry.offset ?? result.count
      let checksum =
        entry.checksum
        ?? entry.data.withUnsafeBufferPointer { UInt32(crc32_z(0, $0.baseAddress, $0.count)) }
      let size = entry.size ?? entry.data.count
      let name = Array((entry.localName ?? entry.name).utf8)
      let common = u(entry.flags, 2) + u(entry.method, 2) + u(0, 4) + u(Int(checksum), 4)
      result += u(0x0403_4B50, 4) + u(20, 2) + common + u(size, 4) + u(size, 4) + u(name.count, 2) + u(0, 2)
      result += name + entry.data
      let wide = entry.isWide ? u(1, 2) + u(24, 2) + u(size, 8) + u(size, 8) + u(start, 8) : []
      let field = entry.isWide ? 0xFFFF_FFFF : size
      directory += u(0x0201_4B50, 4) + u(45, 2) + u(20, 2) + common + u(field, 4) + u(field, 4)
      directory += u(entry.name.utf8.count, 2) + u(wide.count, 2) + u(0, 2) + u(0, 2) + u(0, 2) + u(0, 4)
      directory += u(entry.isWide ? 0xFFFF_FFFF : start, 4) + entry.name.utf8 + wide
    }
    let start = result.count
    result += directory
    if isWide {
      let record = result.count
      result += u(0x0606_4B50, 4) + u(44, 8) + u(45, 2) + u(45, 2) + u(0, 8) + u(entries.count, 8)
      result += u(entries.count, 8) + u(directory.count, 8) + u(start, 8)
      result += u(0x0706_4B50, 4) + u(0, 4) + u(record, 8) + u(1, 4)
    }
    let (count, size, place) =
      isWide ? (0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF) : (entries.count, directory.count, start)
    result += u(0x0605_4B50, 4) + u(0, 4) + u(count, 2) + u(count, 2) + u(size, 4) + u(place, 4) + u(0, 2)
    return result + trailer
  }

  /// An archive of torch.save with storages by key.
  init(_ pickle: [UInt8], _ storages: [String: [UInt8]] = ["0": [UInt8](repeating: 0, count: 24)]) {
    entries = [
      Entry(name: "any/data.pkl", data: pickle), Entry(name: "any/byteorder", data: Array("little".utf8)),
    ]
    entries += storages.sorted { $0.key < $1.key }.map { Entry(name: "any/data/" + $0.key, data: $0.value) }
  }
}
