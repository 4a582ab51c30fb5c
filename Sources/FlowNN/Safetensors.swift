public import FlowTensor
public import Foundation

/// Why a safetensors file was refused. The case is the reason; its text says where.
public enum SafetensorsError: Error, Sendable, Hashable, CustomStringConvertible {
  case unreadable(String)
  case truncated
  case headerTooLarge(Int)
  case invalidHeader(String)
  case duplicateName(String)
  case unknownType(tensor: String, type: String)
  case overflow(tensor: String)
  case sizeMismatch(tensor: String, expected: Int, found: Int)
  case notContiguous(tensor: String)
  case notCovered(expected: Int, found: Int)
  case noTensor(String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let path): "can't read \(path)"
    case .truncated: "the file ends before its header does"
    case .headerTooLarge(let size): "a header of \(size) bytes is over the limit of 100,000,000"
    case .invalidHeader(let why): "the header is not valid: \(why)"
    case .duplicateName(let name): "the name '\(name)' occurs twice"
    case .unknownType(let tensor, let type): "tensor '\(tensor)' has the unknown type '\(type)'"
    case .overflow(let tensor): "the size of tensor '\(tensor)' overflows"
    case .sizeMismatch(let tensor, let expected, let found):
      "tensor '\(tensor)' needs \(expected) bytes by its shape and has \(found)"
    case .notContiguous(let tensor): "tensor '\(tensor)' overlaps another or leaves a hole before it"
    case .notCovered(let expected, let found): "the tensors end at byte \(expected), the file at \(found)"
    case .noTensor(let name): "there is no tensor '\(name)'"
    }
  }
}

/// A safetensors file (github.com/huggingface/safetensors, format description), memory-mapped. Stricter than the
/// reference: duplicate names, unknown fields and ranks over 64 are refused too. Nothing in it is ever run.
public struct SafetensorsFile: Sendable {
  /// A tensor's entry.
  public struct Entry: Sendable, Hashable {
    /// Its element type, as the file names it.
    public let type: String
    /// Its dimensions.
    public let shape: [Int]
    /// Its first byte and the one after its last, after the header.
    let begin: Int, end: Int
  }

  /// The entries by name.
  public let entries: [String: Entry]
  /// `__metadata__`.
  public let metadata: [String: String]
  private let data: Data
  private let start: Int

  /// The names, sorted.
  public var names: [String] { entries.keys.sorted() }

  static let bits: [String: Int] = [
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32,
    "U32": 32, "F32": 32, "C64": 64, "I64": 64, "U64": 64, "F64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E8M0": 8,
  ]

  /// Maps and checks the file at `path`.
  /// - Throws: `SafetensorsError`.
  public init(path: String) throws {
    guard let data = try? Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) else {
      throw SafetensorsError.unreadable(path)
    }
    try self.init(data: data)
  }

  /// Checks the bytes of a file.
  /// - Throws: `SafetensorsError`.
  public init(data: Data) throws {
    guard data.count >= 8 else { throw SafetensorsError.truncated }
    let length = data.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
    guard length <= 100_000_000 else { throw SafetensorsError.headerTooLarge(Int(clamping: length)) }
    guard data.count - 8 >= Int(length) else { throw SafetensorsError.truncated }
    start = 8 + Int(length)
    self.data = data
    var parser = HeaderParser(bytes: [UInt8](data[data.startIndex + 8..<data.startIndex + start]))
    (entries, metadata) = try parser.parse()
    var position = 0
    for (name, entry) in entries.sorted(by: {
      ($0.value.begin, $0.value.end, $0.key) < ($1.value.begin, $1.value.end, $1.key)
    }) {
      guard entry.begin == position, entry.end >= entry.begin else {
        throw SafetensorsError.notContiguous(tensor: name)
      }
      guard let bits = SafetensorsFile.bits[entry.type] else {
        throw SafetensorsError.unknownType(tensor: name, type: entry.type)
      }
      var size = bits
      for dimension in entry.shape {
        let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
        if overflow { throw SafetensorsError.overflow(tensor: name) }
        size = product
      }
      // A dimension of 0 must not hide an overflow of the others.
      var others = bits
      for dimension in entry.shape where dimension > 0 {
        let (product, overflow) = others.multipliedReportingOverflow(by: dimension)
        if overflow { throw SafetensorsError.overflow(tensor: name) }
        others = product
      }
      guard size % 8 == 0, size / 8 == entry.end - entry.begin else {
        throw SafetensorsError.sizeMismatch(tensor: name, expected: size / 8, found: entry.end - entry.begin)
      }
      position = entry.end
    }
    guard start + position == data.count else {
      throw SafetensorsError.notCovered(expected: start + position, found: data.count)
    }
  }

  /// The raw bytes of the tensor `name`.
  /// - Throws: `SafetensorsError.noTensor`.
  public func bytes(_ name: String) throws -> Data {
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    let base = data.startIndex + start
    return data[base + entry.begin..<base + entry.end]
  }

  /// The tensor `name`: floats of any width become float32, integers int32.
  /// - Throws: `SafetensorsError`, also for types that neither can hold.
  public func tensor(_ name: String) throws -> HostTensor {
    let raw = try bytes(name)
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    let count = entry.shape.reduce(1, *)
    func map<T, U>(_ type: T.Type, _ convert: (T) -> U) -> [U] {
      raw.withUnsafeBytes { buffer in
        (0..<count).map {
          convert(buffer.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
        }
      }
    }
    switch entry.type {
    case "F32":
      return try HostTensor(map(UInt32.self) { Float(bitPattern: UInt32(littleEndian: $0)) }, entry.shape)
    case "F64":
      return try HostTensor(
        map(UInt64.self) { Float(Double(bitPattern: UInt64(littleEndian: $0))) }, entry.shape)
    case "BF16":
      return try HostTensor(
        map(UInt16.self) { Float(bitPattern: UInt32(UInt16(littleEndian: $0)) << 16) }, entry.shape)
    case "F16":
      return try HostTensor(map(UInt16.self) { SafetensorsFile.half(UInt16(littleEndian: $0)) }, entry.shape)
    case "I64":
      return try HostTensor(map(Int64.self) { Int32(clamping: Int64(littleEndian: $0)) }, entry.shape)
    case "I32": return try HostTensor(map(Int32.self) { Int32(littleEndian: $0) }, entry.shape)
    case "U8", "BOOL": return try HostTensor(map(UInt8.self) { Int32($0) }, entry.shape)
    default: throw SafetensorsError.unknownType(tensor: name, type: entry.type)
    }
  }

  /// A F64 tensor in full precision.
  /// - Throws: `SafetensorsError` when it is missing or of another type.
  public func doubles(_ name: String) throws -> [Double] {
    let raw = try bytes(name)
    guard let entry = entries[name], entry.type == "F64" else {
      return try tensor(name).floats.map(Double.init)
    }
    return raw.withUnsafeBytes { buffer in
      (0..<entry.shape.reduce(1, *)).map {
        Double(
          bitPattern: UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
      }
    }
  }

  /// IEEE 754 half precision.
  static func half(_ h: UInt16) -> Float {
    let sign: Float = h & 0x8000 == 0 ? 1 : -1
    let exponent = Int(h >> 10) & 31
    let fraction = Float(h & 1023)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
  }
}

/// Writes safetensors: float32 tensors by name in sorted order, the header padded to 8 bytes: the same tensors give the
/// same bytes.
public enum Safetensors {
  private static func quoted(_ text: String) -> String {
    let encoded = (try? JSONEncoder().encode([text])) ?? Data("[\"\"]".utf8)
    return String(decoding: encoded.dropFirst().dropLast(), as: UTF8.self)
  }

  /// The bytes of a file that holds `tensors`.
  public static func encode(_ tensors: [String: HostTensor], metadata: [String: String] = [:]) -> [UInt8] {
    var fields: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
      fields.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var position = 0
    let names = tensors.keys.sorted()
    for name in names {
      guard let tensor = tensors[name] else { continue }
      let end = position + tensor.shape.reduce(1, *) * 4
      let type = if case .int32 = tensor.values { "I32" } else { "F32" }
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      fields.append(
        "\(quoted(name)):{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(position),\(end)]}")
      position = end
    }
    var header = Array("{\(fields.joined(separator: ","))}".utf8)
    while header.count % 8 != 0 { header.append(0x20) }
    var bytes = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header
    bytes.reserveCapacity(bytes.count + position)
    for name in names {
      switch tensors[name]?.values {
      case .float32(let values): values.withUnsafeBytes { bytes.append(contentsOf: $0) }
      case .int32(let values): values.withUnsafeBytes { bytes.append(contentsOf: $0) }
      case nil: break
      }
    }
    return bytes
  }

  /// The tensors cut into shards of at most `limit` bytes of data each, and the index that Python's loaders expect.
  public static func shards(
    _ tensors: [String: HostTensor], limit: Int, metadata: [String: String] = [:]
  ) -> (files: [(name: String, bytes: [UInt8])], index: String) {
    var groups: [[String: HostTensor]] = [[:]]
    var size = 0
    var total = 0
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let bytes = tensor.shape.reduce(1, *) * 4
      if size > 0, size + bytes > limit {
        groups.append([:])
        size = 0
      }
      groups[groups.count - 1][name] = tensor
      size += bytes
      total += bytes
    }
    func number(_ n: Int) -> String { String(repeating: "0", count: max(0, 5 - String(n).count)) + String(n) }
    var map: [String] = []
    let files = groups.enumerated().map { i, group in
      let name = "model-\(number(i + 1))-of-\(number(groups.count)).safetensors"
      map += group.keys.sorted().map { "    \(quoted($0)): \"\(name)\"" }
      return (name: name, bytes: encode(group, metadata: metadata))
    }
    let index =
      "{\n  \"metadata\": {\"total_size\": \(total)},\n  \"weight_map\": {\n\(map.sorted().joined(separator: ",\n"))\n  }\n}\n"
    return (files, index)
  }
}
