import FlowCore
import FlowNN
public import FlowTensor
import Foundation

/// Why a model's files can't be used. Each text names the file.
public enum PublishedFilesError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A file that should be there.
  case missing(String, known: [String])
  /// A configuration that can't be read, and why.
  case config(String, String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .missing(let path, let known):
      "there is no \(path)" + (known.isEmpty ? "" : "; \(known.joined(separator: ", ")) were looked for")
    case .config(let path, let why): "\(path): \(why)"
    }
  }
}

/// A network's sizes and weights as they are published: `NAME.json` beside `NAME.safetensors`, its shards and their index, or
/// `NAME.bin` of torch.save (spec 0.2).
public struct PublishedFiles: Sendable {
  /// The path of its sizes.
  public let config: String
  /// The paths of its weights: one file, or shards.
  public let weights: [String]

  /// The network `name` (`model`, `decoder`) in the folder `path`, or that whose weights or sizes are the file `path`.
  /// - Throws: `PublishedFilesError`, `SafetensorsError`.
  public init(_ path: String, _ name: String) throws {
    var isFolder: ObjCBool = false
    let files = FileManager.default
    guard files.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw PublishedFilesError.missing(path, known: [])
    }
    var stem = path + "/" + name
    if !isFolder.boolValue {
      let ends = [".safetensors.index.json", ".safetensors", ".bin", ".json"]
      stem = ends.first { path.hasSuffix($0) }.map { String(path.dropLast($0.count)) } ?? path
    }
    config = stem + ".json"
    guard files.fileExists(atPath: config) else { throw PublishedFilesError.missing(config, known: []) }
    let index = stem + ".safetensors.index.json"
    if let whole = [".safetensors", ".bin"].map({ stem + $0 }).first(where: files.fileExists) {
      weights = [whole]
    } else if files.fileExists(atPath: index) {
      weights = try WeightFile.shardPaths(index)
    } else {
      throw PublishedFilesError.missing(
        stem + ".safetensors", known: [stem + ".bin", index])
    }
  }

  /// Its sizes.
  /// - Throws: `PublishedFilesError.config`.
  public func sizes<T: Decodable>(_ type: T.Type) throws -> T {
    try PublishedFiles.document(config, type)
  }

  /// Its weights: those of safetensors where they lie, of the types they are kept in, to be read only; those of torch.save in
  /// memory, as float32.
  /// - Throws: `SafetensorsError`, `TorchError`, `TensorError`.
  public func store(on backend: any Backend) throws -> ParameterStore {
    let store = ParameterStore(backend)
    for path in weights {
      if path.hasSuffix(".bin") {
        for (key, value) in try WeightFile.read(path) { try store.set(key, value.cast(to: .float32)) }
      } else {
        try store.load(
          SafetensorsFile(path: path), keeping: [.float32, .bfloat16, .float16], borrowing: true)
      }
    }
    return store
  }

  /// What an adapter of flow's that was trained on these weights calls its base. All of the files are read for it.
  /// - Throws: `FileError`.
  public func name() throws -> String {
    try BaseName.of(
      weights.map { path in
        var hasher = SHA256()
        let file = try MappedFile(path)
        withExtendedLifetime(file) { hasher.update(file.bytes) }
        return hasher.finish()
      })
  }

  /// The JSON document of type `type` at `path`.
  /// - Throws: `PublishedFilesError.config`, with the key that is wrong.
  public static func document<T: Decodable>(_ path: String, _ type: T.Type) throws(PublishedFilesError) -> T {
    func key(_ path: [any CodingKey]) -> String { path.map(\.stringValue).joined(separator: ".") }
    do { return try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path))) } catch {
      let why =
        switch error {
        case DecodingError.keyNotFound(let missing, let context):
          "'\(key(context.codingPath + [missing]))' is missing"
        case DecodingError.typeMismatch(let wanted, let context):
          "'\(key(context.codingPath))' is not of the type \(wanted)"
        case DecodingError.valueNotFound(_, let context): "'\(key(context.codingPath))' is null"
        case DecodingError.dataCorrupted: "it is not JSON; fetch the file again"
        default: "\(error)"
        }
      throw .config(path, why)
    }
  }
}
