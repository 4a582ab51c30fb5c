public import FlowCore
import Foundation
import Synchronization

/// What a context needs of the world: the engine's worker implements it over the store, tests over a folder.
public protocol StageIO: Sendable {
  /// A path where the file's bytes can be read; it must not be written to.
  func materialise(_ file: ItemFile) throws -> String
  /// Stores `bytes` under `name`.
  func store(_ bytes: [UInt8], as name: String) throws -> ItemFile
  /// Stores the bytes of the file at `path` under `name`.
  func store(contentsOf path: String, as name: String) throws -> ItemFile
  /// A folder for temporary files of this action; emptied before each try.
  var scratchDirectory: String { get }
  /// A folder that survives a kill: the next try of the same action finds it as it was.
  var checkpointDirectory: String { get }
  /// Reports progress: a fraction from 0 to 1 and what is being done.
  func progress(_ fraction: Double, _ note: String)
  /// Writes a line to the action's log.
  func log(_ line: String)
  /// Whether the run was interrupted.
  var isCancelled: Bool { get }
}

/// An item as a stage sees it: names, attributes, and files that are there when asked for.
public struct InputItem: Sendable {
  /// The item. In a stage `per: item`, the `id` of an item of an input that is not `whole` is empty.
  public let item: Item
  private let io: any StageIO

  /// The item, read through `io`.
  public init(_ item: Item, io: any StageIO) {
    self.item = item
    self.io = io
  }

  /// The names of its files, sorted.
  public var fileNames: [String] { item.files.map(\.name) }

  /// Whether it has a file of that name.
  public func has(_ name: String) -> Bool { item.files.contains { $0.name == name } }

  /// A path where the file `name` can be read.
  /// - Throws: `StageFailure` when the item has no such file; store errors.
  public func path(_ name: String) throws -> String {
    guard let file = item.files.first(where: { $0.name == name }) else {
      throw StageFailure("the item has no file '\(name)' (it has \(fileNames.joined(separator: ", ")))")
    }
    return try io.materialise(file)
  }

  /// A path of the first file whose ending, in lower case, is one of `extensions`.
  /// - Throws: `StageFailure` when there is none; store errors.
  public func path(extensions: [String]) throws -> String {
    for file in item.files {
      guard let dot = file.name.lastIndex(of: ".") else { continue }
      if extensions.contains(file.name[file.name.index(after: dot)...].lowercased()) {
        return try io.materialise(file)
      }
    }
    throw StageFailure("the item has no file ending in \(extensions.joined(separator: ", "))")
  }
}

/// What a stage emits as a file's content.
public enum FileContent: Sendable {
  /// These bytes.
  case bytes([UInt8])
  /// The UTF-8 of this text.
  case text(String)
  /// The bytes of the file at this path (usually in the scratch folder).
  case file(String)
}

/// What the key of an action's result says of the device that computes it.
public enum KeyedDevice: Sendable, Hashable {
  /// The processors.
  case cpu
  /// CUDA devices, and all else that decides their results.
  case cuda(String)
}

/// All that a running stage sees. Its methods may be called from several threads.
public final class StageContext: Sendable {
  /// What a finished action gave.
  public struct Result: Sendable, Hashable {
    /// The items of each output, in the order they were emitted. In a stage `per: item` the ids are suffixes to the
    /// name of the action's item (usually empty).
    public var outputs: [String: [Item]] = [:]
    /// Numbers about the action, for the record and the lock file.
    public var metrics: [String: Double] = [:]

    /// Nothing yet.
    public init() {}
  }

  /// Threads that the stage may use.
  public let threads: Int
  /// The ids of the GPUs that the stage may use; `CUDA_VISIBLE_DEVICES` of its process names the same.
  public let gpus: [String]
  /// What must compute its result, where its key says so: another device would give other last digits.
  public let device: KeyedDevice?
  /// The processes that share the action's work: all run the stage, on the same inputs, and what rank 0 emits, reports and
  /// keeps counts.
  public let ranks: any Communicator
  /// Bytes of memory that there are.
  public var memory: Int { givenMemory ?? MachineMemory.available() }
  private let givenMemory: Int?
  private let start = ContinuousClock.now
  private let declaration: StageDeclaration
  private let inputs: [String: [Item]]
  private let seed: UInt64
  private let io: any StageIO
  private let disk: any FileSystem
  private let state = Mutex(Result())

  /// A context for one action.
  /// - Parameters:
  ///   - declaration: the stage's contract.
  ///   - inputs: the items of each bound input: one for an input of a stage `per: item` that is not `whole`.
  ///   - seed: the parameter `seed`, or 0.
  ///   - threads: threads granted.
  ///   - gpus: ids of the GPUs granted.
  ///   - device: what its key says of the device.
  ///   - ranks: those that share the work.
  ///   - memory: bytes of memory that there are; when left out, what the machine and its control groups have available.
  ///   - disk: where checkpoints are kept.
  public init(
    declaration: StageDeclaration, inputs: [String: [Item]], seed: UInt64 = 0, threads: Int,
    gpus: [String] = [], device: KeyedDevice? = nil, ranks: any Communicator = SoleRank(), memory: Int? = nil,
    disk: any FileSystem = Disk.standard, io: any StageIO
  ) {
    self.declaration = declaration
    self.inputs = inputs
    self.seed = seed
    self.threads = max(1, threads)
    self.gpus = gpus
    self.device = device
    self.ranks = ranks
    givenMemory = memory
    self.disk = disk
    self.io = io
  }

  /// The action's item of the input `port`.
  /// - Throws: `StageFailure` when the input is not bound or has no item.
  public func input(_ port: String) throws -> InputItem {
    guard let item = optionalInput(port) else { throw StageFailure("input '\(port)' has no item") }
    return item
  }

  /// The action's item of the optional input `port`, if there is one.
  public func optionalInput(_ port: String) -> InputItem? {
    inputs[port]?.first.map { InputItem($0, io: io) }
  }

  /// All items of the input `port`, sorted by id; none when an optional input is not bound.
  public func items(_ port: String) -> [InputItem] {
    (inputs[port] ?? []).sorted { $0.id < $1.id }.map { InputItem($0, io: io) }
  }

  /// Emits an item of the output `port`.
  /// - Parameters:
  ///   - id: in a stage `per: all` the item's name; in a stage `per: item` a suffix to the name of the action's item,
  ///     empty for the usual one-to-one case and such as `~2` for a variant.
  ///   - files: names and contents.
  /// - Throws: `StageFailure` when the output isn't declared or the id was emitted before; store errors.
  public func emit(
    _ port: String, id: String = "", files: [String: FileContent], attributes: [String: JSON] = [:]
  ) throws {
    guard declaration.outputs.contains(where: { $0.name == port }) else {
      throw StageFailure("stage '\(declaration.name)' declares no output '\(port)'")
    }
    var stored: [ItemFile] = []
    for (name, content) in files.sorted(by: { $0.key < $1.key }) {
      switch content {
      case .bytes(let bytes): stored.append(try io.store(bytes, as: name))
      case .text(let text): stored.append(try io.store(Array(text.utf8), as: name))
      case .file(let path): stored.append(try io.store(contentsOf: path, as: name))
      }
    }
    let item = Item(id: id, files: stored, attributes: attributes)
    try state.withLock { result in
      if result.outputs[port, default: []].contains(where: { $0.id == id }) {
        throw StageFailure("output '\(port)' got the item '\(id)' twice")
      }
      result.outputs[port, default: []].append(item)
    }
  }

  /// Records a number about this action; it goes to the record, the lock file and the report.
  public func metric(_ name: String, _ value: Double) { state.withLock { $0.metrics[name] = value } }

  /// Reports progress: a fraction from 0 to 1 and what is being done.
  public func progress(_ fraction: Double, _ note: String = "") { io.progress(fraction, note) }

  /// Seconds since the action began; for what people are told, never for results.
  public var elapsed: Double {
    let time = (ContinuousClock.now - start).components
    return Double(time.seconds) + Double(time.attoseconds) * 1e-18
  }

  /// Writes a line to the action's log.
  public func log(_ line: String) { io.log(line) }

  /// A path in the scratch folder for a file of that name; the folder exists.
  public func scratch(_ name: String) -> String { io.scratchDirectory + "/" + name }

  /// A folder that survives a kill: the next try of the same action finds it as it was.
  public var checkpointDirectory: String { io.checkpointDirectory }

  /// Keeps `bytes` as the checkpoint `name`, whole and durable when this returns; the one before stays until then. Of ranks,
  /// the first makes and keeps them.
  /// - Throws: `StageFailure` when the disk is full; `FileError`, and what `bytes` throws.
  public func keepCheckpoint(_ bytes: @autoclosure () throws -> [UInt8], as name: String) throws {
    guard ranks.rank == 0 else { return }
    let bytes = try bytes()
    let digest = checkpointDigest(bytes).withBytes { Array($0) }
    do throws(FileError) { try write(bytes + digest, io.checkpointDirectory, name) } catch {
      guard error.code == ENOSPC || error.code == EDQUOT else { throw error }
      throw StageFailure(
        "the disk is full: '\(name)' (\(bytes.count) bytes) can't be kept: \(error)",
        help:
          "make room ('flow cache gc --budget MIB' may) and run the same command again; it goes on from the last one that was kept"
      )
    }
  }

  private func write(_ bytes: [UInt8], _ folder: String, _ name: String) throws(FileError) {
    let isSynced = Durability.standard == .full
    let path = "\(folder)/\(name)"
    disk.discard(path + ".new")
    try disk.writeFile(path + ".new", bytes, permissions: 0o644, sync: isSynced)
    try disk.rename(path + ".new", path)
    if isSynced { try disk.syncing(folder, folder: true) }
  }

  /// What `keepCheckpoint` kept in an earlier try; `nil` when there is nothing, or only something damaged. All ranks get what
  /// the first finds.
  /// - Throws: what the ranks throw.
  public func checkpoint(_ name: String) throws -> [UInt8]? {
    if ranks.size == 1 { return ownCheckpoint(name) }
    let own = ranks.rank == 0 ? ownCheckpoint(name) : nil
    let found = try ranks.broadcast(own.map { [1] + $0 } ?? [0])
    return found.first == 1 ? Array(found.dropFirst()) : nil
  }

  private func ownCheckpoint(_ name: String) -> [UInt8]? {
    guard let file = try? disk.contents("\(io.checkpointDirectory)/\(name)"), file.count >= 32 else {
      return nil
    }
    let bytes = Array(file.dropLast(32))
    let isWhole = file.suffix(32).withUnsafeBytes { Digest(bytes: $0) } == checkpointDigest(bytes)
    if !isWhole { io.log("the checkpoint '\(name)' is damaged and is not used") }
    return isWhole ? bytes : nil
  }

  /// Takes the checkpoint `name` away, if there is one; of ranks, the first does.
  public func discardCheckpoint(_ name: String) {
    if ranks.rank == 0 { disk.discard("\(io.checkpointDirectory)/\(name)") }
  }

  /// Of a checkpoint and of what it was made from, so that one in another's place is as bad as a damaged one.
  private func checkpointDigest(_ bytes: [UInt8]) -> Digest {
    var hasher = SHA256()
    hasher.field("stage", declaration.name.utf8)
    for port in inputs.keys.sorted() {
      for file in (inputs[port] ?? []).flatMap(\.files) { hasher.update(file.digest) }
    }
    hasher.field("checkpoint", bytes)
    return hasher.finish()
  }

  /// A random stream that is a pure function of the parameter `seed`, the contents of the inputs and `label`: adding,
  /// removing or renaming other items changes nothing.
  public func random(_ label: String) -> Philox {
    var hasher = SHA256()
    for port in inputs.keys.sorted() {
      for item in inputs[port] ?? [] {
        hasher.field("port", port.utf8)
        for file in item.files { hasher.field("file", (file.name + file.digest.hex).utf8) }
      }
    }
    hasher.field("label", label.utf8)
    return Philox(seed: seed, label: hasher.finish().hex)
  }

  /// - Throws: `StageCancelled` after an interrupt; long loops call it between steps, their checkpoint written. Ranks call it
  ///   together, and stop together.
  public func checkCancelled() throws {
    let isCancelled = ranks.size == 1 ? io.isCancelled : try ranks.broadcast([io.isCancelled ? 1 : 0]) == [1]
    if isCancelled { throw StageCancelled() }
  }

  /// What was emitted so far; the engine takes it when the stage has returned.
  public var result: Result { state.withLock { $0 } }
}
