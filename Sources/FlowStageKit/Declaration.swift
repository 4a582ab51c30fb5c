public import FlowCore

/// The contract of a stage, as `stages/NAME.yaml` says it: the only home of parameter defaults.
public struct StageDeclaration: Sendable, Hashable {
  /// What one action of a stage covers.
  public enum Per: String, Sendable, CaseIterable {
    /// One action per item: the stage sees one item of each input that isn't `whole`.
    case item
    /// One action for all items together.
    case all
  }

  /// How the stage runs.
  public enum Run: Sendable, Hashable {
    /// A Swift type in `FlowStages`.
    case native
    /// A program.
    case command(CommandTemplate)
    /// Other declared stages, wired in its declaration; a plan has those instead of it.
    case pipeline
  }

  /// Whose rounding the stage's numbers carry.
  public enum Numeric: String, Sendable, CaseIterable {
    /// That of matrix products, whose order of summing differs between classes of processors.
    case blas
  }

  /// What must be asked before the stage runs.
  public enum Gate: String, Sendable, CaseIterable {
    /// Whether the pipeline's `licenses` allow those of everything that it is made from.
    case license
  }

  /// The name that pipelines use, such as `train-flow`.
  public var name: String
  /// Bumped when the same inputs give other outputs; part of every action key.
  public var version: Int
  /// What the stage does, in a sentence or two.
  public var doc: String
  /// What one action covers.
  public var per: Per
  /// How it runs.
  public var run: Run
  /// Inputs, in the order of the file.
  public var inputs: [InputDeclaration]
  /// Outputs, in the order of the file.
  public var outputs: [OutputDeclaration]
  /// Parameters, in the order of the file.
  public var parameters: [ParameterDeclaration]
  /// What one action needs; never part of a key.
  public var resources: Resources
  /// What must be asked first.
  public var gate: Gate?
  /// Whose rounding its numbers carry; then the processor's class is part of its keys.
  public var numeric: Numeric?

  /// A declaration.
  public init(
    name: String, version: Int, doc: String, per: Per, run: Run = .native, inputs: [InputDeclaration] = [],
    outputs: [OutputDeclaration] = [], parameters: [ParameterDeclaration] = [],
    resources: Resources = Resources()
  ) {
    self.name = name
    self.version = version
    self.doc = doc
    self.per = per
    self.run = run
    self.inputs = inputs
    self.outputs = outputs
    self.parameters = parameters
    self.resources = resources
  }
}

/// What one action may use.
public struct Resources: Sendable, Hashable {
  /// Threads; 0 means all that the run has (`-j`).
  public var cpu: Int
  /// Memory in bytes, as an estimate for the scheduler; 0 when nothing is said.
  public var memory: Int
  /// GPUs.
  public var gpu: Int
  /// Named tokens, of which a pipeline's `limits` say how many there are.
  public var tokens: [String: Int]

  /// One thread and no statement about memory, unless said.
  public init(cpu: Int = 1, memory: Int = 0, gpu: Int = 0, tokens: [String: Int] = [:]) {
    self.cpu = cpu
    self.memory = memory
    self.gpu = gpu
    self.tokens = tokens
  }
}

/// An input of a stage.
public struct InputDeclaration: Sendable, Hashable {
  /// The name that `in:` binds.
  public var name: String
  /// What may be bound to it.
  public var type: ArtifactType
  /// What it is for.
  public var doc: String
  /// In a stage `per: item`: every action sees all items of this input (weights, a reference set) instead of its own.
  public var whole: Bool
  /// It may be left unbound; in a stage `per: item` it may also lack an item.
  public var optional: Bool

  /// An input.
  public init(name: String, type: ArtifactType, doc: String = "", whole: Bool = false, optional: Bool = false)
  {
    self.name = name
    self.type = type
    self.doc = doc
    self.whole = whole
    self.optional = optional
  }
}

/// An output of a stage.
public struct OutputDeclaration: Sendable, Hashable {
  /// The name that others refer to as `STAGE.NAME`.
  public var name: String
  /// What it is.
  public var type: ArtifactType
  /// What it holds.
  public var doc: String

  /// An output.
  public init(name: String, type: ArtifactType, doc: String = "") {
    self.name = name
    self.type = type
    self.doc = doc
  }
}

/// A parameter of a stage.
public struct ParameterDeclaration: Sendable, Hashable {
  /// The type of a parameter's value, with its bounds.
  public enum Kind: Sendable, Hashable {
    case bool
    case int(min: Int?, max: Int?)
    case float(min: Double?, max: Double?)
    case string
    case choice([String])
    case ints(min: Int?, max: Int?)
    case floats(min: Double?, max: Double?)
    case strings
    /// A file outside the project, such as a soundfont: its digest, not its path, enters the key. When it is not
    /// set, the first of `search` that exists is taken; `package` names what to install when none does.
    case file(search: [String], package: String?)
  }

  /// The name that `with:` sets.
  public var name: String
  /// Its type and bounds.
  public var kind: Kind
  /// The value when it is not set; `nil` when it must be set, `.null` when it may be absent.
  public var standard: JSON?
  /// The unit, such as `Hz`; empty when it has none.
  public var unit: String
  /// What it does.
  public var doc: String
  /// Whether it changes the result (`affects: result`); one that doesn't (`affects: nothing`) is in no key.
  public var affectsResult: Bool
  /// Another whole number among the parameters that this one must divide.
  public var divides: String?
  /// An input: this list has an element for each of what is bound to it, in that order, or none. When it has, the stage sees
  /// of which one each item is (`StageDeclaration.part`).
  public var each: String?
  /// Of a file: none need be found; the stage gets null then, which is another key than a file's.
  public var isOptional = false
  /// Where its default stands.
  public var location: SourceLocation?

  /// A parameter.
  public init(
    name: String, kind: Kind, standard: JSON?, unit: String = "", doc: String = "", affectsResult: Bool = true
  ) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.unit = unit
    self.doc = doc
    self.affectsResult = affectsResult
  }
}

extension StageDeclaration {
  /// The parameter that says on how many ranks (processes with a part of each batch) a native stage runs.
  public static let ranks = "ranks"

  /// The parameters that say what a native stage computes on, and how exactly it does so there.
  public static let device = "device", precision = "precision"

  /// The attribute of an item that says the how-manieth of what is bound to its input it is of, from 0, where a parameter
  /// has something for each.
  public static let part = "part"

  /// Whether the engine starts it on several ranks where its parameter `ranks` says so.
  public var hasRanks: Bool { run == .native && parameters.contains { $0.name == StageDeclaration.ranks } }
}

/// What an artifact holds: the type of an input or output.
public enum ArtifactType: String, Sendable, CaseIterable, Codable {
  case audio, stems, score, lyrics, phones, f0, prompts, style, latents, pairs, weights, adapter, checkpoint,
    metrics,
    samples, report
  /// Files of any kind.
  case files

  /// Stands for every ending.
  public static let anyExtension = "*"

  /// The endings, in lower case, of files in a source folder that make an item of this type; empty when a source
  /// can't hold it.
  public var sourceExtensions: [String] {
    switch self {
    case .audio: ["wav", "flac", "ogg", "mp3", "aif", "aiff", "opus"]
    case .score: ["abc", "mid", "midi"]
    case .lyrics: ["lrc", "txt"]
    case .weights: ["safetensors"]
    case .files: [ArtifactType.anyExtension]
    default: []
    }
  }
}
