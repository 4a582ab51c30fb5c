import FlowCore
public import FlowPlan
public import FlowStore
import Foundation

/// A cache elsewhere: a folder, or anything that rclone reaches. It is laid out as a store is, `objects/` and `actions/`;
/// names are digests, so only what the other side lacks is moved, and nothing there is ever changed.
///
/// Where the remote can rename, files arrive under `tmp/` and are renamed when they are whole; object stores publish a
/// file whole by themselves. Records go after the objects that they name.
public final class RemoteCache: Sendable {
  /// What was moved.
  public struct Tally: Sendable, Hashable {
    /// Objects and records that were moved, and the bytes of both.
    public internal(set) var objects = 0, records = 0, bytes = 0
    /// Objects and records that were there already.
    public internal(set) var present = 0
    /// Objects that the sender doesn't have; who needs one makes it again.
    public internal(set) var absent = 0
    /// What didn't hold what its name says, and was not taken.
    public internal(set) var refused: [String] = []
    /// Stages that are not done with what there is now.
    public internal(set) var open: [String] = []
  }

  /// How far it is.
  public struct Step: Sendable {
    /// Files moved and to be moved.
    public var files: Int, of: Int
    /// Bytes moved.
    public var bytes: Int
  }

  private static let batchBytes = 64 << 20
  private static let batchFiles = 1000
  /// From this many names on, one listing is cheaper than asking for each.
  private static let listingFrom = 500

  private let store: Store
  private let folder: String
  private let rclone: Rclone
  private let report: @Sendable (Step) -> Void
  /// The address, as rclone takes it.
  public let address: String

  /// - Throws: `RemoteError.noRclone`; `StoreError`.
  public init(_ address: String, store: Store, progress: @escaping @Sendable (Step) -> Void = { _ in }) throws
  {
    self.address = address
    self.store = store
    report = progress
    folder = try store.exchangeFolder()
    rclone = try Rclone(folder: folder, remote: address)
  }

  /// Removes its temporary files.
  public func close() { try? FileManager.default.removeItem(atPath: folder) }

  /// Ends what is running: the call that is in progress throws `RemoteError.interrupted`.
  public func cancel() { rclone.cancel() }

  /// Sends what `plan` stands on; all that has a record when `nil`.
  /// - Throws: `RemoteError`, `StoreError`, `Diagnostics`.
  public func push(_ plan: Plan?, engine: Engine) throws -> Tally {
    var tally = Tally()
    var keys = Set<Digest>()
    if let plan {
      let trace = try engine.trace(plan)
      (keys, tally.open) = (trace.keys, trace.open)
    } else {
      keys = Set(store.recordKeys())
    }
    let records = keys.sorted().compactMap { key in store.record(key).map { (key, $0) } }
    let wanted = Set(records.flatMap { $0.1.objects })
    let objects = wanted.filter(store.contains).sorted()
    tally.absent = wanted.count - objects.count
    let there = try sizes("objects", objects.map { RemoteCache.below($0, Store.objectName) })
    let known = try sizes("actions", records.map { RemoteCache.below($0.0, Store.recordName) })
    // One of another size is torn, or was compressed otherwise; the new one is as good.
    let lacking = objects.filter { there[RemoteCache.below($0, Store.objectName)] != store.diskSize($0) }
    let unknown = records.map(\.0).filter { known[RemoteCache.below($0, Store.recordName)] == nil }
    tally.present = objects.count - lacking.count + records.count - unknown.count
    guard !(lacking.isEmpty && unknown.isEmpty) else { return tally }
    let renames = try canRename()
    let total = lacking.count + unknown.count
    for batch in batches(lacking, { store.diskSize($0) }) {
      let stage = try fresh()
      var count = 0
      for digest in batch {
        if let size = try store.lend(digest, at: stage + "/" + RemoteCache.below(digest, Store.objectName)) {
          count += 1
          tally.bytes += size
        } else {
          tally.refused.append("object \(digest.short) is damaged here; the next run makes it again")
        }
      }
      if count > 0 { try deliver(stage, to: "objects", renames) }
      tally.objects += count
      report(Step(files: tally.objects, of: total, bytes: tally.bytes))
    }
    for batch in batches(unknown, { _ in 4096 }) {
      let stage = try fresh()
      for key in batch {
        if let size = try store.lend(record: key, at: stage + "/" + RemoteCache.below(key, Store.recordName))
        {
          tally.records += 1
          tally.bytes += size
        }
      }
      try deliver(stage, to: "actions", renames)
      report(Step(files: tally.objects + tally.records, of: total, bytes: tally.bytes))
    }
    // What pushes that were killed have left.
    if renames {
      _ = try rclone.run(["delete", "--rmdirs", "--min-age", "1d", rclone.at("tmp")], orNothing: true)
    }
    return tally
  }

  /// Fetches what `plan` stands on, as far as the remote has it; all of the remote's when `nil`.
  /// - Throws: `RemoteError`, `StoreError`, `Diagnostics`.
  public func pull(_ plan: Plan?, engine: Engine) throws -> Tally {
    var tally = Tally()
    if try rclone.run(["lsf", "--max-depth", "1", rclone.at("")], orNothing: true).isEmpty {
      throw RemoteError.nothingThere(remote: address)
    }
    var fetched: [Digest: ActionRecord] = [:]
    var objects = Set<Digest>()
    if let plan {
      let trace = try engine.trace(plan) { try records($0, &tally) }
      (fetched, objects, tally.open) = (trace.fetched, trace.objects, trace.open)
    } else {
      let names = try rclone.run(["lsf", "-R", "--files-only", rclone.at("actions")], orNothing: true)
      let keys = names.split(separator: "\n").compactMap { Digest(hex: String($0.suffix(64))) }
      fetched = try records(keys.filter { store.record($0) == nil }, &tally)
    }
    for record in fetched.values { objects.formUnion(record.objects) }
    let wanted = objects.filter { !store.contains($0) }.sorted()
    tally.present = objects.count - wanted.count
    let there = try sizes("objects", wanted.map { RemoteCache.below($0, Store.objectName) })
    let coming = wanted.filter { there[RemoteCache.below($0, Store.objectName)] != nil }
    tally.absent = wanted.count - coming.count
    var refused = Set<Digest>()
    for batch in batches(coming, { there[RemoteCache.below($0, Store.objectName)] ?? 0 }) {
      let stage = try fresh()
      try copy("objects", batch.map { RemoteCache.below($0, Store.objectName) }, to: stage)
      for digest in batch {
        let path = stage + "/" + RemoteCache.below(digest, Store.objectName)
        guard access(path, F_OK) == 0 else {
          tally.absent += 1
          continue
        }
        if try store.adopt(digest, from: path) {
          tally.objects += 1
          tally.bytes += store.diskSize(digest)
        } else {
          refused.insert(digest)
          tally.refused.append("object \(digest.short) at \(address) does not hold what its name says")
        }
      }
      report(Step(files: tally.objects, of: coming.count + fetched.count, bytes: tally.bytes))
    }
    // A record whose object was refused is not believed either: its action runs again here.
    for (key, record) in fetched.sorted(by: { $0.key < $1.key })
    where refused.isDisjoint(with: record.objects) {
      try store.publish(record, key: key)
      tally.records += 1
    }
    return tally
  }

  /// Records that the remote has of these keys, whole and of that key.
  private func records(_ keys: [Digest], _ tally: inout Tally) throws -> [Digest: ActionRecord] {
    var result: [Digest: ActionRecord] = [:]
    for batch in batches(Array(Set(keys)).sorted(), { _ in 4096 }) {
      let stage = try fresh()
      try copy("actions", batch.map { RemoteCache.below($0, Store.recordName) }, to: stage)
      for key in batch {
        let path = stage + "/" + RemoteCache.below(key, Store.recordName)
        guard access(path, F_OK) == 0 else { continue }
        if let record = store.foreignRecord(at: path), Action.key(of: record.preimage) == key {
          result[key] = record
        } else {
          tally.refused.append("record \(key.short) at \(address) is damaged, or another action's")
        }
      }
    }
    return result
  }

  private static func below(_ digest: Digest, _ name: (Digest) -> String) -> String {
    let name = name(digest)
    return String(name[name.index(after: name.firstIndex(of: "/") ?? name.startIndex)...])
  }

  private func copy(_ kind: String, _ names: [String], to stage: String) throws {
    let list = try rclone.list(names)
    _ = try rclone.run(
      ["copy", "--files-from-raw", list, "--no-traverse", rclone.at(kind), stage], orNothing: true)
  }

  /// The sizes of those files that are there.
  private func sizes(_ kind: String, _ names: [String]) throws -> [String: Int] {
    if names.isEmpty { return [:] }
    var words = ["lsf", "-R", "--files-only", "--format", "sp", rclone.at(kind)]
    if names.count < RemoteCache.listingFrom { words += ["--files-from-raw", try rclone.list(names)] }
    var result: [String: Int] = [:]
    for line in try rclone.run(words, orNothing: true).split(separator: "\n") {
      guard let mark = line.firstIndex(of: ";"), let size = Int(line[..<mark]) else { continue }
      result[String(line[line.index(after: mark)...])] = size
    }
    return result
  }

  /// Whether the remote can rename: then a file may be seen while it is written there, and must not have its name yet.
  private func canRename() throws -> Bool {
    let text = try rclone.run(["backend", "features", rclone.at("")])
    return (try? JSON(parsing: text.utf8))?["Features"]?["Move"] == .bool(true)
  }

  /// Sends the files of a folder into `kind` of the remote.
  private func deliver(_ stage: String, to kind: String, _ renames: Bool) throws {
    guard renames else {
      _ = try rclone.run(["copy", "--no-traverse", "--ignore-times", stage, rclone.at(kind)])
      return
    }
    let temporary = rclone.at("tmp/\(getpid())-\(UInt64.random(in: 0 ... .max))")
    _ = try rclone.run(["copy", "--no-traverse", stage, temporary])
    _ = try rclone.run([
      "move", "--no-traverse", "--ignore-times", "--delete-empty-src-dirs", temporary, rclone.at(kind),
    ])
  }

  private func fresh() throws -> String {
    let path = folder + "/stage"
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  /// In order, so that each has at most some bytes and files: what a kill can lose.
  private func batches(_ all: [Digest], _ size: (Digest) -> Int) -> [[Digest]] {
    var (result, bytes) = ([[Digest]](), 0)
    for digest in all {
      let more = size(digest)
      if result.isEmpty || bytes + more > RemoteCache.batchBytes
        || result[result.count - 1].count >= RemoteCache.batchFiles
      {
        result.append([])
        bytes = 0
      }
      result[result.count - 1].append(digest)
      bytes += more
    }
    return result
  }
}
