public import FlowCore
import FlowPlan
public import FlowStageKit
import FlowStore
import Foundation

/// A stage bound to parameters and inputs: a self-contained document that a worker runs wherever the store is visible.
public struct Action: Sendable, Hashable, Codable {
  /// The identity of its result.
  public var key: Digest
  /// The stage's declared name and version.
  public var stage: String, version: Int
  /// One item, or all.
  public var perItem: Bool
  /// The declared outputs.
  public var outputs: [String]
  /// Every parameter; a file parameter as a path.
  public var parameters: [String: JSON]
  /// The items of each bound input.
  public var inputs: [String: [Item]]
  /// The command line, in a command stage.
  public var command: CommandTemplate?
  /// The paths of its file parameters.
  public var files: [String]
  /// What the key was made of, canonical JSON.
  public var preimage: String
}

extension Action {
  /// The processes that share its work.
  var ranks: Int {
    guard command == nil, case .int(let count)? = parameters[StageDeclaration.ranks] else { return 1 }
    return max(1, count)
  }

  /// What its key says of the device that computes it, where that can be chosen.
  var device: KeyedDevice? {
    guard command == nil, parameters[StageDeclaration.device] != nil else { return nil }
    let numeric = (try? JSON(parsing: preimage.utf8))?["numeric"]?.text ?? ""
    return numeric.hasPrefix(Action.cuda) ? .cuda(String(numeric.dropFirst(Action.cuda.count))) : .cpu
  }

  private static let cuda = "cuda/"

  /// What all actions of a stage have in common.
  struct Template: Sendable {
    var parameters: [String: JSON]
    /// The canonical text of what their keys are made of, before the inputs and after them.
    var head: [UInt8], tail: [UInt8]
    var files: [String] = []
    /// The digest of that text without inputs, and of what one action covers.
    var digest: Digest
  }

  /// - Parameters:
  ///   - files: path and digest of each file parameter.
  ///   - processor: the class of processor, for stages whose numbers depend on it.
  ///   - accelerator: that of the CUDA devices of so many ranks, if there are any; asked for by stages alone whose `device` is
  ///     `cuda` or `auto`, which it is told.
  static func template(
    _ stage: PlannedStage, files: [String: (path: String, digest: Digest)], processor: String = "",
    accelerator: (_ device: String, _ ranks: Int) -> String? = { _, _ in nil }
  ) -> Template {
    let declaration = stage.declaration
    var parameters = stage.parameters
    var keyParameters = stage.keyParameters
    var paths: [String] = []
    for (name, file) in files {
      // A worker may have another working folder.
      let path = absolute(file.path)
      paths.append(path)
      parameters[name] = .string(path)
      if keyParameters[name] != nil { keyParameters[name] = .string("sha256:" + file.digest.hex) }
    }
    // The members in the order of their names, as canonical JSON has them; the inputs come between the two.
    var head = Array("{".utf8)
    if case .command(let template) = declaration.run {
      let command: JSON = .object([
        "words": .array(template.words.map { .string($0) }), "shell": .bool(template.shell),
        "environment": .object(template.environment.mapValues { .string($0) }),
      ])
      head += "\"command\":".utf8
      head += command.canonicalBytes
      head += ",".utf8
    }
    var numeric = declaration.numeric == nil || processor.isEmpty ? "blas" : "blas/\(processor)"
    if let device = stage.device {
      let found = device == "cpu" ? nil : accelerator(device, stage.ranks)
      if device == "cuda" || found != nil {
        numeric = cuda + (found ?? "unknown")
        keyParameters[StageDeclaration.device] = "cuda"
      } else {
        // What the CPU makes has the key that it had before there was a choice.
        keyParameters[StageDeclaration.device] = nil
        keyParameters[StageDeclaration.precision] = nil
      }
    }
    var tail = Array("\"numeric\":".utf8)
    tail += JSON.string(numeric).canonicalBytes
    tail += ",\"outputs\":".utf8
    tail += JSON.array(declaration.outputs.map(\.name).sorted().map { .string($0) }).canonicalBytes
    tail += ",\"parameters\":".utf8
    tail += JSON.object(keyParameters).canonicalBytes
    tail += ",\"stage\":".utf8
    tail += JSON.string(declaration.name).canonicalBytes
    tail += ",\"version\":\(declaration.version)}".utf8
    var hasher = SHA256()
    hasher.field("template", head + tail)
    hasher.field("per", declaration.per.rawValue.utf8)
    return Template(
      parameters: parameters, head: head, tail: tail, files: paths.sorted(), digest: hasher.finish())
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  /// The action of `stage` on `inputs`.
  init(_ stage: PlannedStage, template: Template, inputs: [String: [Item]]) {
    let declaration = stage.declaration
    self.stage = declaration.name
    version = declaration.version
    perItem = declaration.per == .item
    outputs = declaration.outputs.map(\.name)
    parameters = template.parameters
    files = template.files
    if case .command(let line) = declaration.run {
      command = line
      command?.reads = line.reads.map(Action.absolute)
    }
    self.inputs = inputs
    var ports: [String: JSON] = [:]
    for input in declaration.inputs {
      guard let items = inputs[input.name] else { continue }
      // An item's name is not in the key of its own action: renaming it runs nothing.
      let named = declaration.per == .all || input.whole
      ports[input.name] = .array(items.map { Action.identity($0, named: named) })
    }
    var text = template.head
    text += "\"inputs\":".utf8
    text += JSON.object(ports).canonicalBytes
    text += ",".utf8
    text += template.tail
    preimage = String(decoding: text, as: UTF8.self)
    key = Action.key(of: preimage)
  }

  /// The key that a preimage stands for.
  static func key(of preimage: String) -> Digest { ActionRecord.key(of: preimage) }

  private static func identity(_ item: Item, named: Bool) -> JSON {
    var members: [String: JSON] = [
      "files": .object(
        Dictionary(uniqueKeysWithValues: item.files.map { ($0.name, JSON.string($0.digest.hex)) }))
    ]
    if !item.attributes.isEmpty { members["attributes"] = .object(item.attributes) }
    if named { members["id"] = .string(item.id) }
    return .object(members)
  }
}

/// Why a stage has something to run.
public enum Reason: Sendable, Hashable, CustomStringConvertible {
  /// It has no result yet.
  case noRecord
  /// A parameter changed.
  case parameterChanged(String, from: String, to: String)
  /// An input's content changed.
  case inputChanged(String, from: String, to: String)
  /// The stage's version was raised.
  case versionChanged(from: String, to: String)
  /// The stage declares other outputs.
  case outputsChanged
  /// It was made on another class of processor, whose last digits differ.
  case numericChanged(from: String, to: String)
  /// The command line changed.
  case commandChanged(from: String, to: String)
  /// Items that no earlier run had.
  case newItems([String])
  /// Items that are gone (nothing runs for them in a stage `per: item`).
  case removedItems([String])
  /// The result is known, but its bytes are gone from the cache.
  case outputMissing
  /// A stage that it takes from has to run; whether its output changes is not known yet.
  case upstreamMayChange([String])

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .noRecord: "no result yet"
    case .parameterChanged(let name, let from, let to): "\(name): \(from) -> \(to)"
    case .inputChanged(let name, let from, let to): "input \(name): \(from) -> \(to)"
    case .versionChanged(let from, let to): "stage version: \(from) -> \(to)"
    case .commandChanged(let from, let to): "command: \(from) -> \(to)"
    case .numericChanged(let from, let to): "class of processor: \(from) -> \(to)"
    case .outputsChanged: "the stage declares other outputs"
    case .newItems(let ids): "new: \(Reason.list(ids))"
    case .removedItems(let ids): "removed: \(Reason.list(ids))"
    case .outputMissing: "its output is missing from the cache"
    case .upstreamMayChange(let stages): "takes from \(stages.joined(separator: ", ")), which must run first"
    }
  }

  private static func list(_ ids: [String]) -> String {
    ids.prefix(4).joined(separator: ", ") + (ids.count > 4 ? " and \(ids.count - 4) more" : "")
  }

  /// What differs between two preimages.
  static func difference(_ old: String, _ new: String) -> [Reason] {
    guard let before = try? JSON(parsing: old.utf8), let after = try? JSON(parsing: new.utf8) else {
      return [.noRecord]
    }
    var reasons: [Reason] = []
    if before["version"] != after["version"] {
      reasons.append(
        .versionChanged(from: before["version"]?.canonical ?? "-", to: after["version"]?.canonical ?? "-"))
    }
    if before["command"] != after["command"] {
      func line(_ value: JSON?) -> String { value?["words"]?.canonical ?? "-" }
      reasons.append(.commandChanged(from: line(before["command"]), to: line(after["command"])))
    }
    if before["outputs"] != after["outputs"] { reasons.append(.outputsChanged) }
    if before["numeric"] != after["numeric"] {
      reasons.append(
        .numericChanged(from: before["numeric"]?.text ?? "-", to: after["numeric"]?.text ?? "-"))
    }
    func members(_ value: JSON?) -> [String: JSON] {
      if case .object(let members)? = value { members } else { [:] }
    }
    let (oldParameters, newParameters) = (members(before["parameters"]), members(after["parameters"]))
    for name in Set(oldParameters.keys).union(newParameters.keys).sorted()
    where oldParameters[name] != newParameters[name] {
      reasons.append(
        .parameterChanged(
          name, from: oldParameters[name]?.canonical ?? "-", to: newParameters[name]?.canonical ?? "-"))
    }
    let (oldInputs, newInputs) = (members(before["inputs"]), members(after["inputs"]))
    for name in Set(oldInputs.keys).union(newInputs.keys).sorted() where oldInputs[name] != newInputs[name] {
      func short(_ value: JSON?) -> String { value.map { Digest(of: $0.canonical).short } ?? "-" }
      reasons.append(.inputChanged(name, from: short(oldInputs[name]), to: short(newInputs[name])))
    }
    return reasons
  }
}
