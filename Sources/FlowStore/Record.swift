public import FlowCore
import Foundation

/// The result of an action: what was made of what.
public struct ActionRecord: Sendable, Hashable, Codable {
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
      let record = try? JSONDecoder().decode(ActionRecord.self, from: Data(data.dropFirst(65)))
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
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard let body = try? encoder.encode(record) else {
      throw .unwritable(path: "a record", reason: "a metric is not finite")
    }
    try publish(Array(Digest(of: body).hex.utf8) + [0x0A] + [UInt8](body), at: recordPath(key))
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
