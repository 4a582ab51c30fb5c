import FlowCore
public import FlowTensor
public import Foundation

/// A file of `torch.save` (torch 1.6 and later: a zip of `data.pkl` and a file per storage; spec 8.2), memory-mapped: a
/// tensor's bytes are read when it is asked for. Its pickle is carried out by `PickleReader`, which refuses what isn't
/// needed to rebuild tensors.
public struct TorchArchive: Sendable {
  private let source: ByteSource
  private let zip: ZipArchive
  private let folder: String
  private let root: PickleValue
  private let heap: PickleHeap

  /// Maps and checks the file at `path`.
  /// - Throws: `TorchError`.
  public init(path: String) throws(TorchError) {
    do throws(FileError) { source = try ByteSource(path: path) } catch {
      throw .unreadable("\(path): \(error.reason)")
    }
    (zip, folder, root, heap) = try TorchArchive.contents(source)
  }

  /// Checks the bytes of a file.
  /// - Throws: `TorchError`.
  public init(data: Data) throws(TorchError) {
    source = ByteSource(data)
    (zip, folder, root, heap) = try TorchArchive.contents(source)
  }

  private static func contents(
    _ source: ByteSource
  ) throws(TorchError) -> (ZipArchive, String, PickleValue, PickleHeap) {
    let result = try source.withBytes { (bytes) throws(TorchError) in
      let zip = try ZipArchive(bytes)
      let pickles = zip.entries.keys.filter { $0.hasSuffix("/data.pkl") }
      guard let name = pickles.first, pickles.count == 1, let entry = zip.entries[name] else {
        throw .archive(
          "the archive has \(pickles.isEmpty ? "no" : "several") data.pkl, so torch.save did not write it")
      }
      let folder = String(name.dropLast("data.pkl".count))
      guard ZipArchive.isIntact(entry, in: bytes) else { throw damaged(name) }
      if let order = zip.entries[folder + "byteorder"],
        String(decoding: bytes[order.range], as: UTF8.self) != "little"
      {
        throw .archive("the archive's numbers are not little-endian")
      }
      var reader = PickleReader(UnsafeRawBufferPointer(rebasing: bytes[entry.range]))
      let (root, heap) = try reader.read()
      for storage in heap.storages {
        let key = folder + "data/" + storage.key
        guard let data = zip.entries[key] else { throw .archive("the archive has no entry '\(key)'") }
        guard data.range.count == storage.count * storage.type.size else {
          throw .archive(
            "the entry '\(key)' has \(data.range.count) bytes, but the pickle says \(storage.count) "
              + "elements of \(storage.type.size)")
        }
      }
      return (zip, folder, root, heap)
    }
    guard !source.isTorn else { throw .cutShort }
    return result
  }

  private static func damaged(_ name: String) -> TorchError {
    .archive("the entry '\(name)' is damaged: its bytes don't have its checksum")
  }

  /// The tensors of the dictionary at `path`, key by key from the outermost.
  /// - Throws: `TorchError.archive` when there is no such dictionary, or it names a tensor twice.
  public func entries(at path: [String] = []) throws(TorchError) -> [String: Entry] {
    var value = root
    for (depth, key) in path.enumerated() {
      guard case .dictionary(let index) = value,
        let item = heap.dictionaries[index].last(where: { $0.key == .text(key) })
      else {
        let known = names(of: value).joined(separator: ", ")
        let place = depth == 0 ? "the file" : "'\(path[depth - 1])'"
        throw .archive("\(place) has no '\(key)'" + (known.isEmpty ? "" : "; it has \(known)"))
      }
      value = item.value
    }
    guard case .dictionary(let index) = value else {
      throw .archive("\(path.last.map { "'\($0)'" } ?? "the file") is no dictionary of tensors")
    }
    var result: [String: Entry] = [:]
    for case (.text(let name), .tensor(let tensor)) in heap.dictionaries[index] {
      let (view, storage) = (heap.tensors[tensor], heap.storages[heap.tensors[tensor].storage])
      guard result[name] == nil else { throw .archive("the tensor '\(name)' occurs twice") }
      result[name] = Entry(shape: view.shape, type: storage.type.rawValue, view: view, storage: storage)
    }
    return result
  }

  /// The keys of the outermost dictionary whose values are dictionaries, such as `generator`.
  public var groups: [String] {
    guard case .dictionary(let index) = root else { return [] }
    return heap.dictionaries[index].compactMap { item in
      if case (.text(let name), .dictionary) = item { name } else { nil }
    }
  }

  private func names(of value: PickleValue) -> [String] {
    guard case .dictionary(let index) = value else { return [] }
    return heap.dictionaries[index].prefix(20).compactMap {
      if case .text(let name) = $0.key { name } else { nil }
    }
  }

  /// A tensor of the archive.
  public struct Entry: Sendable, Hashable {
    /// Its dimensions.
    public let shape: [Int]
    /// Its element type, by torch's name for its storage, such as `Float`.
    public let type: String
    let view: PickleHeap.Tensor
    let storage: PickleHeap.Storage
  }

  /// The values of `entry`: 16-bit floats as they are, other floats as float32, integers as int32.
  /// - Parameter name: what it is called, for errors.
  /// - Throws: `TorchError` when its storage is damaged or an integer too large; `TensorError`.
  public func tensor(_ entry: Entry, named name: String) throws -> HostTensor {
    let key = folder + "data/" + entry.storage.key
    guard let place = zip.entries[key], place.range.count == entry.storage.count * entry.storage.type.size
    else {
      throw TorchError.tensor(name, problem: "it is of another archive")
    }
    let values = try source.withBytes { (bytes) throws(TorchError) in
      guard ZipArchive.isIntact(place, in: bytes) else { throw TorchArchive.damaged(key) }
      let data = UnsafeRawBufferPointer(rebasing: bytes[place.range])
      return try entry.view.values(data, entry.storage.type, name)
    }
    guard !source.isTorn else { throw TorchError.cutShort }
    return try HostTensor(values, entry.shape)
  }
}
