public import FlowCore
import Foundation

/// The result of an action: what was made of what.
public struct ActionRecord: Sendable, Hashable {
  /// What the key was made of, in canonical JSON.
  public var preimage: String
  /// The items of each output; ids are suffixes in a stage `per: item`.
  public var outputs: [String: [Item]]
  /// Numbers that the stage reported.
  public var metrics: [String: Double]
  /// Why the item was set aside; then there are no outputs.
  public var rejected: String?
  /// The log's object.
  public var log: Digest?
  /// Seconds it took.
  public var seconds: Double
  /// The most memory that the worker held, bytes.
  public var peakMemory: Int

  /// A record.
  public init(
    preimage: String, outputs: [String: [Item]] = [:], metrics: [String: Double] = [:],
    rejected: String? = nil,
    log: Digest? = nil, seconds: Double = 0, peakMemory: Int = 0
  ) {
    self.preimage = preimage
    self.outputs = outputs
    self.metrics = metrics
    self.rejected = rejected
    self.log = log
    self.seconds = seconds
    self.peakMemory = peakMemory
  }

  /// The record that a file of a store holds; `nil` when it is damaged.
  init?(file data: [UInt8]) {
    guard data.count > 65, data[64] == 0x0A,
      Digest(of: data.dropFirst(65)).hex == String(decoding: data.prefix(64), as: UTF8.self),
      let record = (try? JSON(parsing: data.dropFirst(65))).flatMap(ActionRecord.init)
    else { return nil }
    self = record
  }

  /// The key that the record belongs to.
  public var key: Digest { ActionRecord.key(of: preimage) }

  /// The key of an action, from what it is made of.
  public static func key(of preimage: String) -> Digest {
    var hasher = SHA256()
    hasher.field("flow-action/1", preimage.utf8)
    return hasher.finish()
  }

  /// Every object that the record points to.
  public var objects: [Digest] {
    outputs.values.flatMap { $0.flatMap { $0.files.map(\.digest) } } + (log.map { [$0] } ?? [])
  }
}

// By hand, not by Foundation's coders: those took longer than an action of a millisecond.
extension ActionRecord {
  /// As it lies in its file.
  var json: JSON {
    var members: [String: JSON] = [
      "preimage": .string(preimage), "seconds": .double(seconds), "peakMemory": .int(peakMemory),
      "metrics": .object(metrics.mapValues { .double($0) }),
      "outputs": .object(outputs.mapValues { .array($0.map(\.json)) }),
    ]
    if let rejected { members["rejected"] = .string(rejected) }
    if let log { members["log"] = .string(log.hex) }
    return .object(members)
  }

  /// The record that `json` is; `nil` when it is none.
  init?(_ json: JSON) {
    guard let preimage = json["preimage"]?.text, let seconds = json["seconds"]?.number,
      case .int(let peakMemory)? = json["peakMemory"], case .object(let metrics)? = json["metrics"],
      case .object(let outputs)? = json["outputs"]
    else { return nil }
    self.init(preimage: preimage, seconds: seconds, peakMemory: peakMemory)
    for (name, value) in metrics {
      guard let number = value.number else { return nil }
      self.metrics[name] = number
    }
    for (port, value) in outputs {
      guard case .array(let elements) = value else { return nil }
      let items = elements.compactMap(Item.init)
      guard items.count == elements.count else { return nil }
      self.outputs[port] = items
    }
    if let reason = json["rejected"] {
      guard let text = reason.text else { return nil }
      rejected = text
    }
    if let log = json["log"] {
      guard let digest = log.text.flatMap(Digest.init(hex:)) else { return nil }
      self.log = digest
    }
  }
}

extension Item {
  fileprivate var json: JSON {
    .object([
      "id": .string(id), "attributes": .object(attributes),
      "files": .array(
        files.map { ["name": .string($0.name), "digest": .string($0.digest.hex), "size": .int($0.size)] }),
    ])
  }

  fileprivate init?(_ json: JSON) {
    guard let id = json["id"]?.text, case .array(let elements)? = json["files"],
      case .object(let attributes)? = json["attributes"]
    else { return nil }
    var files: [ItemFile] = []
    for element in elements {
      guard let name = element["name"]?.text, case .int(let size)? = element["size"],
        let digest = element["digest"]?.text.flatMap(Digest.init(hex:))
      else { return nil }
      files.append(ItemFile(name: name, digest: digest, size: size))
    }
    self.init(id: id, files: files, attributes: attributes)
  }
}

extension Store {
  func recordPath(_ key: Digest) -> String { "\(root)/\(Store.recordName(key))" }

  /// The record of `key`, if it is there and undamaged. The bytes of its outputs may be gone: what was made of what stays
  /// known, and they are made again when somebody needs them.
  public func record(_ key: Digest) -> ActionRecord? {
    let file: [UInt8]?
    do throws(FileError) { file = try disk.contents(recordPath(key)) } catch {
      // Something that is no file; a device that fails is another matter, the record may be good.
      if [EISDIR, ELOOP, ENXIO].contains(error.code) { quarantine(recordPath(key)) }
      return nil
    }
    guard let data = file else { return nil }
    // A whole record in another's place is as bad as a damaged one.
    guard let record = ActionRecord(file: data), record.key == key else {
      quarantine(recordPath(key))
      return nil
    }
    return record
  }

  /// Publishes a record; its objects must be there.
  /// - Throws: `StoreError`.
  public func publish(_ record: ActionRecord, key: Digest) throws(StoreError) {
    guard record.metrics.values.allSatisfy(\.isFinite), record.seconds.isFinite else {
      throw .unwritable(path: "a record", reason: "a metric is not finite")
    }
    let body = record.json.canonicalBytes
    try publish(Array(Digest(of: body).hex.utf8) + [0x0A] + body, at: recordPath(key))
    note(record, key: key)
  }

  /// All keys that have a record.
  public func recordKeys() -> [Digest] { names("actions").compactMap { Digest(hex: $0) } }

  /// All objects.
  public func objectDigests() -> [Digest] {
    names("objects").compactMap { $0.hasSuffix(".zst") ? Digest(hex: String($0.dropLast(4))) : nil }
  }

  /// The files of a folder of folders.
  private func names(_ folder: String) -> [String] {
    names(in: folder).flatMap { names(in: "\(folder)/\($0)") }.sorted()
  }

  /// Deletes a record.
  public func removeRecord(_ key: Digest) { disk.discard(recordPath(key)) }

  /// Bytes on disk of an object; 0 when it is not there.
  public func diskSize(_ digest: Digest) -> Int {
    var status = stat()
    return stat(path(of: digest), &status) == 0 ? Int(status.st_size) : 0
  }

  /// Re-reads every object and record; the damaged ones, which were set aside.
  public func verify() -> (checked: Int, damaged: [String]) {
    var damaged: [String] = []
    let objects = objectDigests()
    for digest in objects where (try? get(digest)) == nil { damaged.append("object \(digest.short)") }
    let keys = recordKeys()
    for key in keys {
      let there = FileManager.default.fileExists(atPath: recordPath(key))
      if there, record(key) == nil, !FileManager.default.fileExists(atPath: recordPath(key)) {
        damaged.append("record \(key.short)")
      }
    }
    return (objects.count + keys.count, damaged)
  }
}
