public import FlowCore
import Foundation

/// What a collection of garbage came to, or would come to.
public struct Collected: Sendable, Hashable {
  /// Bytes of objects by the declared name of the stage whose record points to them; unreferenced ones under "".
  public var kept: [String: Int] = [:], freed: [String: Int] = [:]
  /// Bytes beyond the budget that may not be freed, because lock files, pins or running runs want them.
  public var excess = 0
  /// All bytes freed.
  public var bytes: Int { freed.values.reduce(0, +) }
}

extension Store {
  /// Frees bytes: first of objects that nothing points to, then, down to `budget`, of the actions of least value: the
  /// seconds that they took times how likely they are wanted again, per byte. What is freed is made again when it is
  /// needed. A record that some manifest still knows stays, as facts are cheap.
  /// - Parameters:
  ///   - trees: what lock files say that must stay.
  ///   - keptKeys: actions that must stay too; pinned ones and those of running runs always do.
  ///   - grace: seconds for which an object that nothing points to yet may wait for its record.
  ///   - isDry: nothing is deleted.
  @discardableResult
  public func collect(
    budget: Int?, trees: Set<Digest> = [], keptKeys: Set<Digest> = [], grace: Double = 3600,
    isDry: Bool = false
  ) -> Collected {
    let start = Store.coarseTime()
    let runs = leases()
    // Whatever was made or taken up since the first running run began is that run's.
    let limit = min(start, runs.map(\.since).min() ?? start)
    let entries = collectable(trees: trees, kept: keptKeys, running: Set(runs.map(\.pipeline)), limit: limit)
    let failures = failureLogs()
    var uses: [Digest: Int] = [:]
    for digest in failures + entries.flatMap(\.objects) { uses[digest, default: 0] += 1 }
    var (result, total) = (Collected(), 0)
    var sizes: [Digest: Int] = [:]
    for digest in objectDigests() {
      let size = diskSize(digest)
      if uses[digest] == nil, reclaim(digest, before: limit - Int(grace * 1e9), isDry) {
        result.freed["", default: 0] += size
      } else {
        sizes[digest] = size
        total += size
      }
    }
    func bytes(_ entry: CollectableRecord) -> Int { entry.objects.reduce(0) { $0 + (sizes[$1] ?? 0) } }
    if let budget, total > budget {
      let byValue = entries.filter { !$0.isKept }
        .map { (entry: $0, value: $0.worth / Double(bytes($0) + 1)) }
        .sorted { ($0.value, $0.entry.key) < ($1.value, $1.entry.key) }
      for (entry, _) in byValue {
        if total <= budget { break }
        for digest in entry.objects {
          uses[digest, default: 0] -= 1
          guard uses[digest] == 0, let size = sizes[digest], reclaim(digest, before: limit, isDry) else {
            continue
          }
          sizes[digest] = nil
          total -= size
          result.freed[entry.stage, default: 0] += size
        }
        if !entry.isKnown, !isDry { removeRecord(entry.key) }
      }
      result.excess = max(0, total - budget)
    }
    var counted = Set<Digest>()
    for entry in entries {
      for digest in entry.objects where sizes[digest] != nil && counted.insert(digest).inserted {
        result.kept[entry.stage, default: 0] += sizes[digest] ?? 0
      }
    }
    let rest = total - result.kept.values.reduce(0, +)
    if rest > 0 { result.kept[""] = rest }
    return result
  }

  /// A record as a collection sees it.
  private struct CollectableRecord {
    var key: Digest, stage: String, objects: [Digest]
    /// Seconds to make it again times how likely that is wanted.
    var worth: Double
    /// It may not be freed; some manifest knows it.
    var isKept: Bool, isKnown: Bool
  }

  private func collectable(trees: Set<Digest>, kept: Set<Digest>, running: Set<String>, limit: Int)
    -> [CollectableRecord]
  {
    var (wanted, likelihood) = (kept.union(pinnedKeys()), [Digest: Double]())
    for name in pipelineNames() {
      let manifest = PipelineManifest(self, pipeline: name)
      for list in manifest.stages.values {
        for (age, stage) in list.enumerated() {
          let isWanted = running.contains(name) || stage.outputs.values.contains { trees.contains($0.digest) }
          for unit in manifest.units(stage) ?? [] {
            if isWanted { wanted.insert(unit.key) }
            likelihood[unit.key] = max(likelihood[unit.key] ?? 0, age == 0 ? 1 : 0.5)
          }
        }
      }
    }
    return recordKeys().compactMap { key in
      guard let record = record(key) else { return nil }
      let time = Store.modified(recordPath(key)) ?? 0
      let days = Double(max(0, limit - time)) / 86400e9
      let known = likelihood[key]
      let stage = (try? JSON(parsing: record.preimage.utf8))?["stage"]?.text ?? "?"
      return CollectableRecord(
        key: key, stage: stage, objects: Array(Set(record.objects)).sorted(),
        worth: max(record.seconds, 1e-3) * (known ?? 0.1) * exp2(-days / 30),
        isKept: wanted.contains(key) || time >= limit, isKnown: known != nil)
    }
  }

  /// Deletes an object whose file was last written or taken up before `time` (ns), which whoever takes it up can't do
  /// between the look and the deletion.
  private func reclaim(_ digest: Digest, before time: Int, _ isDry: Bool) -> Bool {
    let path = path(of: digest)
    guard let modified = Store.modified(path), modified < time else { return false }
    if isDry { return true }
    let lock = lock(digest)
    defer { withExtendedLifetime(lock) {} }
    guard lock != nil, let now = Store.modified(path), now < time else { return false }
    disk.discard(path)
    return true
  }

  /// The logs of actions that failed last.
  private func failureLogs() -> [Digest] {
    names(in: "runs/failed").compactMap { name in
      FileBytes.read("\(root)/runs/failed/\(name)").flatMap {
        Digest(hex: String(decoding: $0, as: UTF8.self))
      }
    }
  }

  private func pipelineNames() -> [String] {
    names(in: "runs").filter { $0.hasSuffix(".manifest") }.map { String($0.dropLast(9)) }
  }

  func names(in folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "\(root)/\(folder)")) ?? []).sorted()
  }

  private static func modified(_ path: String) -> Int? {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    return status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
  }

  /// The clock that files' times come from, ns.
  private static func coarseTime() -> Int {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec
  }
}
