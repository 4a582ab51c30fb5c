public import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import Foundation

/// What a plan finds on the disk: sources and file parameters, digested once.
final class World: Sendable {
  private let sources: [String: [ArtifactType: Artifact]]
  private let paths: [Digest: String]
  /// Path and digest of file parameters, by stage and name.
  let files: [String: [String: (path: String, digest: Digest)]]
  /// What each gated stage is made from.
  let provenance: [String: Provenance]
  nonisolated(unsafe) let stats: StatCache  // used before the run's tasks start and after they end

  /// The class of processor, where it matters to a stage's numbers.
  private let processor: String
  /// That of the CUDA device.
  private let accelerator: @Sendable (String, Int) -> String?

  init(
    _ plan: Plan, store: Store, processor: String,
    accelerator: @escaping @Sendable (String, Int) -> String?
  ) throws {
    self.accelerator = accelerator
    self.processor = processor
    let stats = StatCache(store)
    var problems: [Diagnostic] = []
    // Only types that some stage takes from the source are sorted out.
    var types: [String: Set<ArtifactType>] = [:]
    for stage in plan.stages {
      for input in stage.declaration.inputs {
        for case .source(let name) in stage.bindings[input.name] ?? [] {
          types[name, default: []].insert(input.type)
        }
      }
    }
    var (sources, paths) = ([String: [ArtifactType: Artifact]](), [Digest: String]())
    var rights: [String: [String: Rights]] = [:]
    for source in plan.sources {
      do {
        let scan = try SourceScan(source, stats: stats)
        for type in types[source.name] ?? [] {
          sources[source.name, default: [:]][type] = Artifact(scan.items(of: type))
        }
        paths.merge(scan.paths) { a, _ in a }
        rights[source.name] = scan.rights
      } catch let error as Diagnostics { problems += error.all }
    }
    var files: [String: [String: (path: String, digest: Digest)]] = [:]
    for stage in plan.stages {
      for parameter in stage.declaration.parameters {
        guard case .file(let search, let package) = parameter.kind else { continue }
        let given = stage.parameters[parameter.name]?.text
        let found = given ?? search.first { FileManager.default.isReadableFile(atPath: $0) }
        if let found, let (digest, _) = stats.digest(found) {
          files[stage.name, default: [:]][parameter.name] = (found, digest)
        } else if given != nil || !(search.isEmpty || parameter.isOptional) {
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
    self.sources = sources
    provenance = World.provenance(
      plan, items: { name, type in sources[name]?[type]?.items.map(\.id) ?? [] }, rights: rights)
    self.files = files
    self.stats = stats
    self.paths = paths
  }

  /// What all actions of `stage` have in common.
  func template(_ stage: PlannedStage) -> Action.Template {
    Action.template(stage, files: files[stage.name] ?? [:], processor: processor, accelerator: accelerator)
  }

  /// The items of each bound input of `stage`.
  func inputs(_ stage: PlannedStage, _ reports: [String: StageReport]) -> [String: Artifact] {
    var result: [String: Artifact] = [:]
    for input in stage.declaration.inputs {
      guard let references = stage.bindings[input.name] else { continue }
      let parts = references.map { reference -> (artifact: Artifact, label: String?) in
        switch reference {
        case .source(let name): (sources[name]?[input.type] ?? World.nothing, nil)
        case .output(let from, let port): (reports[from]?.outputs?[port] ?? World.nothing, nil)
        case .cell(let from, let port, let label): (reports[from]?.outputs?[port] ?? World.nothing, label)
        }
      }
      let isCounted = stage.declaration.parameters.contains {
        $0.each == input.name && stage.parameters[$0.name] != .array([])
      }
      result[input.name] = Artifact.union(parts, numbered: isCounted)
    }
    return result
  }

  private static let nothing = Artifact([])

  /// Puts the source file with that content into the store; whether there is one.
  /// - Throws: `StageFailure` when it was edited meanwhile; `StoreError`.
  func ingest(_ digest: Digest, _ store: Store) throws -> Bool {
    guard let path = paths[digest] else { return false }
    guard access(path, R_OK) == 0 else { throw StageFailure("\(path) can't be read any more") }
    guard try store.put(contentsOf: path).digest == digest else {
      throw StageFailure("\(path) was edited meanwhile; run again")
    }
    return true
  }

  /// A source file of `action` that no longer has the bytes that were taken from it.
  func changedSource(_ action: Action) -> String? {
    for file in action.inputs.values.flatMap({ $0.flatMap(\.files) }) {
      guard let path = paths[file.digest] else { continue }
      // Unchanged since it was hashed, by all its times: not read again.
      if let (digest, size) = stats.known(path) {
        if digest != file.digest || size != file.size { return path }
        continue
      }
      if StatCache.hash(path).map({ $0.size != file.size || $0.digest != file.digest }) ?? true {
        return path
      }
    }
    return nil
  }
}

extension Store {
  /// The preimage of a record.
  func preimage(_ key: Digest) -> String? { record(key)?.preimage }
}

extension Engine {
  /// The log of an action, of its record or of its last failure.
  public func log(_ key: Digest) -> String? {
    if let record = store.record(key), record.log == nil { return "" }
    let failed = FileBytes.read("\(store.root)/runs/failed/\(key.hex)")
    let digest = store.record(key)?.log ?? failed.flatMap { Digest(hex: String(decoding: $0, as: UTF8.self)) }
    return digest.flatMap { try? store.get($0) }.map { String(decoding: $0, as: UTF8.self) }
  }
}
