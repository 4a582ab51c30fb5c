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
      let end = position + tensor.shape.reduce(1, *) * tensor.dtype.size
      let type = code(tensor.dtype)
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
      tensors[name]?.withBytes { bytes.append(contentsOf: $0) }
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
      let bytes = tensor.shape.reduce(1, *) * tensor.dtype.size
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

  /// Writes `tensors` to the file at `path`, which is there whole or not at all whatever happens meanwhile, the power's
  /// going included.
  /// - Throws: `FileError`.
  public static func write(
    _ tensors: [String: HostTensor], metadata: [String: String] = [:], to path: String,
    through files: any FileSystem = RealFileSystem()
  ) throws(FileError) {
    try publish(encode(tensors, metadata: metadata), path, files)
  }

  /// Writes `tensors` into `folder` as shards of at most `limit` bytes of data each, then the index
  /// `model.safetensors.index.json`: who finds the index finds all it names.
  /// - Throws: `FileError`.
  public static func writeShards(
    _ tensors: [String: HostTensor], limit: Int, metadata: [String: String] = [:], to folder: String,
    through files: any FileSystem = RealFileSystem()
  ) throws(FileError) {
    let (shards, index) = shards(tensors, limit: limit, metadata: metadata)
    for shard in shards { try publish(shard.bytes, folder + "/" + shard.name, files) }
    try publish(Array(index.utf8), folder + "/model.safetensors.index.json", files)
  }

  /// Written beside, synced, renamed, and the name synced too.
  static func publish(_ bytes: [UInt8], _ path: String, _ files: any FileSystem) throws(FileError) {
    let draft = path + ".\(ProcessInfo.processInfo.processIdentifier).tmp"
    files.discard(draft)
    try files.writeFile(draft, bytes, permissions: 0o644, sync: true)
    do throws(FileError) { try files.rename(draft, path) } catch {
      files.discard(draft)
      throw error
    }
    let folder = (path as NSString).deletingLastPathComponent
    try files.syncing(folder.isEmpty ? "." : folder, folder: true)
  }
}
