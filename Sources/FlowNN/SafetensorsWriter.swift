public import FlowCore
public import FlowTensor
import Foundation

/// Writes safetensors: tensors by name in sorted order, the header padded to 8 bytes: the same tensors give the
/// same bytes.
public enum Safetensors {
  private static func quoted(_ text: String) -> String {
    let encoded = (try? JSONEncoder().encode([text])) ?? Data("[\"\"]".utf8)
    return String(decoding: encoded.dropFirst().dropLast(), as: UTF8.self)
  }

  private static func code(_ type: DType) -> String {
    switch type {
    case .float32: "F32"
    case .bfloat16: "BF16"
    case .float16: "F16"
    case .int32: "I32"
    case .bool: "BOOL"
    }
  }

  /// What stands before the data of `tensors`, which follow each other by name.
  private static func header(_ tensors: [String: HostTensor], _ metadata: [String: String]) -> [UInt8] {
    var fields: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
      fields.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var position = 0
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let end = position + tensor.byteCount
      let type = code(tensor.dtype)
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      fields.append(
        "\(quoted(name)):{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(position),\(end)]}")
      position = end
    }
    var header = Array("{\(fields.joined(separator: ","))}".utf8)
    while header.count % 8 != 0 { header.append(0x20) }
    return withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header
  }

  /// The bytes of a file that holds `tensors`.
  public static func encode(_ tensors: [String: HostTensor], metadata: [String: String] = [:]) -> [UInt8] {
    var bytes = header(tensors, metadata)
    bytes.reserveCapacity(bytes.count + tensors.values.reduce(0) { $0 + $1.byteCount })
    for (_, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      tensor.withBytes { bytes.append(contentsOf: $0) }
    }
    return bytes
  }

  /// The tensors cut into shards of at most `limit` bytes of data each, and the index that Python's loaders expect.
  public static func shards(
    _ tensors: [String: HostTensor], limit: Int, metadata: [String: String] = [:]
  ) -> (files: [(name: String, bytes: [UInt8])], index: String) {
    let (groups, index) = cut(tensors, limit)
    return (groups.map { ($0.name, encode($0.tensors, metadata: metadata)) }, index)
  }

  /// What each shard holds, and the index.
  private static func cut(
    _ tensors: [String: HostTensor], _ limit: Int
  ) -> (files: [(name: String, tensors: [String: HostTensor])], index: String) {
    var groups: [[String: HostTensor]] = [[:]]
    var size = 0
    var total = 0
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let bytes = tensor.byteCount
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
      return (name: name, tensors: group)
    }
    let index =
      "{\n  \"metadata\": {\"total_size\": \(total)},\n  \"weight_map\": {\n\(map.sorted().joined(separator: ",\n"))\n  }\n}\n"
    return (files, index)
  }

  /// Writes `tensors` to the file at `path`, which is there whole or not at all whatever happens meanwhile, the power's
  /// going included. No second copy of the numbers is made.
  /// - Throws: `FileError`.
  public static func write(
    _ tensors: [String: HostTensor], metadata: [String: String] = [:], to path: String,
    through files: any FileSystem = RealFileSystem()
  ) throws(FileError) {
    try publish(path, files) { (file) throws(FileError) in
      try append(header(tensors, metadata), to: file, files)
      for (_, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
        try tensor.withBytes { (bytes) throws(FileError) in try files.writeAll(file, bytes) }
      }
    }
  }

  /// Writes `tensors` into `folder` as shards of at most `limit` bytes of data each, then the index
  /// `model.safetensors.index.json`: who finds the index finds all it names.
  /// - Throws: `FileError`.
  public static func writeShards(
    _ tensors: [String: HostTensor], limit: Int, metadata: [String: String] = [:], to folder: String,
    through files: any FileSystem = RealFileSystem()
  ) throws(FileError) {
    let (shards, index) = cut(tensors, limit)
    for shard in shards {
      try write(shard.tensors, metadata: metadata, to: folder + "/" + shard.name, through: files)
    }
    try publish(Array(index.utf8), folder + "/model.safetensors.index.json", files)
  }

  /// Written beside, synced, renamed, and the name synced too.
  static func publish(_ bytes: [UInt8], _ path: String, _ files: any FileSystem) throws(FileError) {
    try publish(path, files) { (file) throws(FileError) in try append(bytes, to: file, files) }
  }

  private static func append(
    _ bytes: [UInt8], to file: OpenFile, _ files: any FileSystem
  ) throws(FileError) {
    let result = bytes.withUnsafeBytes { raw in
      Result { () throws(FileError) in try files.writeAll(file, raw) }
    }
    try result.get()
  }

  private static func publish(
    _ path: String, _ files: any FileSystem, _ body: (OpenFile) throws(FileError) -> Void
  ) throws(FileError) {
    let draft = path + ".\(ProcessInfo.processInfo.processIdentifier).tmp"
    files.discard(draft)
    try files.writeFile(draft, permissions: 0o644, sync: true, body)
    do throws(FileError) { try files.rename(draft, path) } catch {
      files.discard(draft)
      throw error
    }
    let folder = Path.parent(path)
    try files.syncing(folder.isEmpty ? "." : folder, folder: true)
  }
}

extension HostTensor {
  /// The bytes of its elements.
  fileprivate var byteCount: Int { shape.reduce(1, *) * dtype.size }
}
