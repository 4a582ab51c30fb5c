import FlowCore
public import FlowTensor
import Foundation

/// Weights in any of the formats that models are published in.
public enum WeightFile {
  /// All tensors of the file at `path`: safetensors, a safetensors index (`….index.json`, whose shards lie beside it), or
  /// what torch.save wrote. 16-bit floats and masks stay as they are.
  /// - Parameter group: the dictionary of tensors in a torch archive; unless given, the outermost, or the only one in it.
  /// - Throws: `SafetensorsError`, `TorchError`, `TensorError`; `FileError` when an index can't be read.
  public static func read(_ path: String, group: String? = nil) throws -> [String: HostTensor] {
    if path.hasSuffix(".json") { return try shards(path) }
    if try isArchive(path) {
      let archive = try TorchArchive(path: path)
      var keys = group.map { [$0] } ?? []
      if group == nil, try archive.entries().isEmpty {
        guard archive.groups.count == 1 else {
          let known =
            archive.groups.isEmpty ? "" : "; name one of the groups \(archive.groups.joined(separator: ", "))"
          throw TorchError.archive("the file has no tensors of its own" + known)
        }
        keys = archive.groups
      }
      var result: [String: HostTensor] = [:]
      for (name, entry) in try archive.entries(at: keys) {
        result[name] = try archive.tensor(entry, named: name)
      }
      return result
    }
    guard group == nil else { throw TorchError.archive("only files of torch.save have groups") }
    return try tensors(SafetensorsFile(path: path))
  }

  /// Whether the file begins as a zip, or as torch's files before 1.6, which are told apart when they are opened.
  private static func isArchive(_ path: String) throws(SafetensorsError) -> Bool {
    guard let file = FileHandle(forReadingAtPath: path) else { throw .unreadable("\(path): no such file") }
    defer { try? file.close() }
    let start = [UInt8]((try? file.read(upToCount: 4)) ?? Data())
    return start == [0x50, 0x4B, 3, 4] || start.starts(with: [0x80, 2, 0x8A, 0x0A])
  }

  private static func tensors(_ file: SafetensorsFile) throws -> [String: HostTensor] {
    var result: [String: HostTensor] = [:]
    for name in file.names { result[name] = try file.stored(name) }
    return result
  }

  /// Which file each tensor of the index at `path` is in.
  private static func shardNames(_ path: String) throws -> [String: String] {
    let bytes = try RealFileSystem().contents(path)
    guard let bytes, let json = try? JSON(parsing: Data(bytes)), case .object(let map)? = json["weight_map"]
    else {
      throw SafetensorsError.unreadable("\(path): no safetensors index, which has a 'weight_map'")
    }
    let folder = Path.parent(path)
    var result: [String: String] = [:]
    for (name, shard) in map.sorted(by: { $0.key < $1.key }) {
      guard let shard = shard.text, !shard.contains("/"), shard != ".." else {
        throw SafetensorsError.unreadable("\(path): '\(name)' is in no file beside the index")
      }
      result[name] = folder.isEmpty ? shard : folder + "/" + shard
    }
    return result
  }

  /// The files that the index at `path` names, sorted.
  /// - Throws: `SafetensorsError`; `FileError` when it can't be read.
  public static func shardPaths(_ path: String) throws -> [String] {
    Set(try shardNames(path).values).sorted()
  }

  private static func shards(_ path: String) throws -> [String: HostTensor] {
    var files: [String: SafetensorsFile] = [:]
    var result: [String: HostTensor] = [:]
    for (name, shard) in try shardNames(path).sorted(by: { $0.key < $1.key }) {
      let file = try files[shard] ?? SafetensorsFile(path: shard)
      files[shard] = file
      result[name] = try file.stored(name)
    }
    return result
  }
}
