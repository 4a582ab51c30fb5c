public import FlowCore
public import FlowStageKit

/// A pipeline whose names, types and values are resolved: what to do, in an order in which it can be done. Pure: made
/// without looking at the disk or the clock (file contents enter when the engine assesses it).
public struct Plan: Sendable, Hashable {
  /// The pipeline's name: names the folder of its results and its lock file.
  public var name: String
  /// The pipeline's file, as the user named it; the lock file lies beside it.
  public var file: String
  /// Folders and files of the user's, sorted by name.
  public var sources: [PlannedSource]
  /// The stages in topological order; among equals, in the order of the file.
  public var stages: [PlannedStage]
  /// What is laid out for people under `runs/NAME/`, sorted by name.
  public var results: [PlannedResult]
  /// How much of what its stages may use at once; in no key.
  public var limits: Limits
  /// What may go into what gated stages make.
  public var licenses = LicensePolicy()

  /// A plan.
  public init(
    name: String, file: String, sources: [PlannedSource], stages: [PlannedStage], results: [PlannedResult],
    limits: Limits = Limits()
  ) {
    self.limits = limits
    self.name = name
    self.file = file
    self.sources = sources
    self.stages = stages
    self.results = results
  }

  /// The stages that `--from` and `--to` leave: those in `to` with all they take from, and those in `from` with all that
  /// takes from them and what those need. `nil` when nothing was asked for.
  /// - Throws: `Diagnostics` for a name that is no stage's.
  public func part(from: [String], to: [String]) throws -> Set<String>? {
    if from.isEmpty, to.isEmpty { return nil }
    let names = stages.map(\.name)
    /// A name, or that of a matrix for all of its cells, or that of a pipeline stage for all within.
    func found(_ name: String) throws -> [String] {
      let hits = names.filter { $0 == name || $0.hasPrefix(name + "[") || $0.hasPrefix(name + "/") }
      guard hits.isEmpty else { return hits }
      throw Diagnostics([
        Diagnostic(
          code: "E022", "there is no stage '\(name)' in this pipeline",
          help: DidYouMean.hint(name, among: names, what: "stage"))
      ])
    }
    var wanted = Set(try to.flatMap(found))
    var down = Set(try from.flatMap(found))
    for stage in stages where stage.upstream.contains(where: down.contains) { down.insert(stage.name) }
    wanted.formUnion(down)
    for stage in stages.reversed() where wanted.contains(stage.name) { wanted.formUnion(stage.upstream) }
    return wanted
  }

  /// The stage called `name`.
  public func stage(_ name: String) -> PlannedStage? { stages.first { $0.name == name } }
}

/// What `limits` of a pipeline says.
public struct Limits: Sendable, Hashable {
  /// Bytes of memory of all running actions together; `nil`: what the machine has.
  public var memory: Int?
  /// How many there are of each named token.
  public var tokens: [String: Int]

  /// Limits.
  public init(memory: Int? = nil, tokens: [String: Int] = [:]) {
    self.memory = memory
    self.tokens = tokens
  }
}

/// A folder (or one file) whose files are items: files of one stem, such as `take7.wav` and `take7.txt`, are one item
/// whose id is the stem's path in the folder.
public struct PlannedSource: Sendable, Hashable {
  /// The name that `in:` refers to.
  public var name: String
  /// The folder or file, resolved against the pipeline's folder (or the working directory when set by `--set`).
  public var path: String
  /// Whether `path` is a manifest: a JSON object per line, an item each.
  public var isManifest = false
  /// Patterns of the paths in the folder that are taken; all when empty.
  public var include: [String] = []
  /// Patterns of the paths in the folder that are left out.
  public var exclude: [String] = []
  /// SPDX licence expression of its items, if said.
  public var license: String?
  /// Who made its items, if said.
  public var authors: [String] = []
  /// Where it stands in the document.
  public var location: SourceLocation?

  /// A source.
  public init(name: String, path: String, license: String? = nil, location: SourceLocation? = nil) {
    self.name = name
    self.path = path
    self.license = license
    self.location = location
  }
}

/// A stage bound to parameters and inputs.
public struct PlannedStage: Sendable, Hashable {
  /// What happens when an item is rejected or its action fails.
  public enum OnError: String, Sendable, CaseIterable {
    /// The item is quarantined with its reason and the run goes on; an empty result is an error.
    case skip
    /// The stage fails.
    case fail
  }

  /// How long outputs stay in the cache once no stage needs them. What is gone is made again when it is needed.
  public enum Retain: String, Sendable, CaseIterable {
    /// No longer than the run that made them, whatever became of it.
    case never
    /// Until the stages that take from it have run.
    case untilConsumed = "until-consumed"
    /// Until room is needed: the least worth keeping goes first.
    case lru
    /// Always.
    case pin
  }

  /// Its name in this pipeline: that in the text, `NAME[key=value,…]` for a cell of a matrix, `NAME/INNER` for a stage
  /// within a pipeline stage.
  public var name: String
  /// Its contract.
  public var declaration: StageDeclaration
  /// Every declared parameter with its resolved, typed value (an int is `.int`, a float always `.double`).
  public var parameters: [String: JSON]
  /// What each bound input takes: the union of the references, the first winning where two have an item of one id.
  public var bindings: [String: [Reference]]
  /// What one action needs.
  public var resources: Resources
  /// What happens to a bad item.
  public var onError: OnError
  /// Seconds after which an action is ended; `nil`: none.
  public var timeout: Double?
  /// How often an action is tried again, by what ended it.
  public var retries: [FailureCause: Int] = [:]
  /// How long its outputs are kept.
  public var retain = Retain.lru
  /// Where it stands in the document.
  public var location: SourceLocation?

  /// A bound stage.
  public init(
    name: String, declaration: StageDeclaration, parameters: [String: JSON], bindings: [String: [Reference]],
    resources: Resources, onError: OnError = .skip, location: SourceLocation? = nil
  ) {
    self.name = name
    self.declaration = declaration
    self.parameters = parameters
    self.bindings = bindings
    self.resources = resources
    self.onError = onError
    self.location = location
  }

  /// The stages it takes from, sorted.
  public var upstream: [String] {
    var found: [String] = []
    for references in bindings.values {
      for reference in references {
        if let stage = reference.origin?.stage, !found.contains(stage) { found.append(stage) }
      }
    }
    return found.count > 1 ? found.sorted() : found
  }

  /// The processes that share the work of one action.
  public var ranks: Int {
    guard declaration.hasRanks, case .int(let count)? = parameters[StageDeclaration.ranks] else { return 1 }
    return max(1, count)
  }

  /// What it computes on, where it can be chosen: `cpu`, `cuda`, or `auto` for either.
  public var device: String? {
    guard declaration.run == .native, case .string(let name)? = parameters[StageDeclaration.device] else {
      return nil
    }
    return name
  }

  /// The parameters that are part of the key.
  public var keyParameters: [String: JSON] {
    var result = parameters
    for parameter in declaration.parameters where !parameter.affectsResult { result[parameter.name] = nil }
    return result
  }
}

/// What ended an action without a result.
public enum FailureCause: String, Sendable, CaseIterable, Codable {
  /// It took longer than its `timeout`.
  case timeout
  /// The kernel ended it for want of memory.
  case outOfMemory = "out-of-memory"
  /// Anything else.
  case other
}

/// Where an input's items come from.
public enum Reference: Sendable, Hashable, CustomStringConvertible {
  /// The items of a source that have a file of the input's type.
  case source(String)
  /// The items of an output of another stage.
  case output(stage: String, output: String)
  /// The items of an output of one cell of a matrix; `label` comes before their names.
  case cell(stage: String, output: String, label: String)

  /// The stage and output; `nil` for a source.
  public var origin: (stage: String, output: String)? {
    switch self {
    case .source: nil
    case .output(let stage, let output), .cell(let stage, let output, _): (stage, output)
    }
  }

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .source(let name): name
    case .output(let stage, let output), .cell(let stage, let output, _): "\(stage).\(output)"
    }
  }
}

/// An artifact that is laid out under `runs/NAME/` when the run is done.
public struct PlannedResult: Sendable, Hashable {
  /// The folder's name.
  public var name: String
  /// What it holds: one output, or that of every cell of a matrix.
  public var references: [Reference]

  /// A result.
  public init(name: String, references: [Reference]) {
    self.name = name
    self.references = references
  }
}
