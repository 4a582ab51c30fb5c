public import FlowCore
public import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// What a plan finds on the disk: sources and file parameters, digested once.
final class World: Sendable {
  private let scans: [String: SourceScan]
  private let paths: [Digest: String]
  /// Path and digest of file parameters, by stage and name.
  let files: [String: [String: (path: String, digest: Digest)]]
  nonisolated(unsafe) let stats: StatCache  // used before the run's tasks start and after they end

  init(_ plan: Plan, store: Store) throws {
    let stats = StatCache(store)
    var scans: [String: SourceScan] = [:]
    var problems: [Diagnostic] = []
    for source in plan.sources {
      do { scans[source.name] = try SourceScan(source, stats: stats) } catch let error as Diagnostics {
        problems += error.all
      }
    }
    var files: [String: [String: (path: String, digest: Digest)]] = [:]
    for stage in plan.stages {
      for parameter in stage.declaration.parameters {
        guard case .file(let search, let package) = parameter.kind else { continue }
        let given = stage.parameters[parameter.name]?.text
        let found = given ?? search.first { FileManager.default.isReadableFile(atPath: $0) }
        if let found, let (digest, _) = stats.digest(found) {
          files[stage.name, default: [:]][parameter.name] = (found, digest)
        } else if given != nil || parameter.standard == .null, given != nil || !search.isEmpty {
          problems.append(
            Diagnostic(
              code: "E031", "stage '\(stage.name)': no file for '\(parameter.name)'", at: stage.location,
              notes: ["looked for: \((given.map { [$0] } ?? search).joined(separator: ", "))"],
              help: package.map { "sudo apt-get install \($0), or set '\(parameter.name)'" }
                ?? "set '\(parameter.name)'"))
        }
      }
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    self.scans = scans
    self.files = files
    self.stats = stats
    paths = scans.values.reduce(into: [:]) { $0.merge($1.paths) { a, _ in a } }
  }

  /// The items of each bound input of `stage`: the union of its references, the first winning where ids meet, sorted.
  func inputs(_ stage: PlannedStage, outputs: [String: [String: [Item]]]) -> [String: [Item]] {
    var result: [String: [Item]] = [:]
    for input in stage.declaration.inputs {
      guard let references = stage.bindings[input.name] else { continue }
      var items: [String: Item] = [:]
      for reference in references {
        let found =
          switch reference {
          case .source(let name): scans[name]?.items(of: input.type) ?? []
          case .output(let from, let port): outputs[from]?[port] ?? []
          }
        for item in found where items[item.id] == nil { items[item.id] = item }
      }
      result[input.name] = items.values.sorted { $0.id < $1.id }
    }
    return result
  }

  /// Puts the source files that `action` takes into the store.
  func ingest(_ action: Action, _ store: Store) throws {
    for file in action.inputs.values.flatMap({ $0.flatMap(\.files) }) {
      guard !store.contains(file.digest), let path = paths[file.digest] else { continue }
      guard let data = FileManager.default.contents(atPath: path) else {
        throw StageFailure("\(path) can't be read any more")
      }
      if try store.put([UInt8](data)) != file.digest {
        throw StageFailure("\(path) was edited meanwhile; run again")
      }
    }
  }

  /// A source file of `action` that no longer has the bytes that were taken from it.
  func changedSource(_ action: Action) -> String? {
    for file in action.inputs.values.flatMap({ $0.flatMap(\.files) }) {
      guard let path = paths[file.digest], let data = FileManager.default.contents(atPath: path) else {
        continue
      }
      if data.count != file.size || Digest(of: data) != file.digest { return path }
    }
    return nil
  }
}

/// The keys that a pipeline's stages had in the last run, by item: to say what changed.
final class History: Sendable {
  private let stages: [String: [String: Digest]]
  private let path: String
  private let store: Store

  init(_ store: Store, _ pipeline: String) {
    self.store = store
    path = "\(store.root)/runs/\(pipeline).json"
    let data = FileManager.default.contents(atPath: path) ?? Data()
    stages = (try? JSONDecoder().decode([String: [String: Digest]].self, from: data)) ?? [:]
  }

  func keys(_ stage: String) -> [String: Digest] { stages[stage] ?? [:] }

  /// Remembers the keys of the stages that are up to date; skipped when nothing changed.
  func save(_ reports: [StageReport]) {
    var merged = stages
    for report in reports where !report.keys.isEmpty { merged[report.name] = report.keys }
    guard merged != stages else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    if let data = try? encoder.encode(merged) { try? store.publish([UInt8](data), at: path) }
  }
}

extension Store {
  /// The preimage of a record, also when its outputs are gone.
  func preimage(_ key: Digest) -> String? {
    guard let data = FileManager.default.contents(atPath: "\(root)/actions/\(key.hex.prefix(2))/\(key.hex)"),
      data.count > 65
    else { return nil }
    return (try? JSONDecoder().decode(ActionRecord.self, from: data.dropFirst(65)))?.preimage
  }
}

extension Engine {
  /// Why `stage` (or one of its items) would run: reasons from its last result to now.
  /// - Throws: `Diagnostics`.
  public func why(_ plan: Plan, stage: String, item: String?) throws -> (report: StageReport, key: Digest?) {
    let report = try assess(plan)
    guard let found = report.stages.first(where: { $0.name == stage }) else {
      throw Diagnostics([
        Diagnostic(
          code: "E022", "there is no stage '\(stage)' in this pipeline",
          help: "its stages: \(plan.stages.map(\.name).joined(separator: ", "))")
      ])
    }
    return (found, found.keys[item ?? ""] ?? found.keys[found.keys.keys.sorted().first ?? ""])
  }

  /// The log of an action, of its record or of its last failure.
  public func log(_ key: Digest) -> String? {
    let failed = FileManager.default.contents(atPath: "\(store.root)/runs/failed/\(key.hex)")
    let digest = store.record(key)?.log ?? failed.flatMap { Digest(hex: String(decoding: $0, as: UTF8.self)) }
    return digest.flatMap { try? store.get($0) }.map { String(decoding: $0, as: UTF8.self) }
  }
}

extension StageReport {
  /// The keys of its actions by item ("" for a stage over all), when its inputs are known.
  public var actionKeys: [String: Digest] { keys }
}
