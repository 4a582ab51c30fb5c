public import FlowCore

/// A unit of work written in Swift. One type, one file, one line in `FlowStages/AllStages.swift`, and its contract in
/// `stages/NAME.yaml`.
///
/// A stage is synchronous value code: it reads its inputs, computes, emits its outputs. It never sees the pipeline,
/// the cache, other stages, or the name of its item (so a renamed item is not computed again).
///
/// ```swift
/// struct Gain: Stage {
///   static let name = "gain"
///   struct Parameters: Decodable, Sendable { var decibels: Double }  // no defaults here: the YAML owns them
///   let parameters: Parameters
///   func run(_ context: StageContext) throws {
///     let path = try context.input("audio").path("audio.wav")
///     …
///     try context.emit("audio", files: ["audio.wav": .file(scratchPath)])
///   }
/// }
/// ```
public protocol Stage: Sendable {
  /// The parameters, named as in the declaration. Decoding must use every declared parameter.
  associatedtype Parameters: Decodable & Sendable
  /// The name of the declaration.
  static var name: String { get }
  /// A stage with these parameters.
  /// - Throws: `StageFailure` when they contradict each other.
  init(parameters: Parameters) throws
  /// Does the work.
  /// - Throws: `ItemRejected` to set the item aside and go on; anything else fails the action.
  func run(_ context: StageContext) throws
  /// The tensor programs that it runs with these parameters, on inputs as large as it takes, written out for people.
  func programs() throws -> [ProgramListing]
}

extension Stage {
  /// None.
  public func programs() throws -> [ProgramListing] { [] }
}

/// A tensor program written out.
public struct ProgramListing: Sendable {
  /// What it is for, such as `step`.
  public let name: String
  /// Its lines.
  public let text: String
  /// A listing.
  public init(name: String, text: String) {
    self.name = name
    self.text = text
  }
}

/// A registered stage, its type erased.
public struct NativeStage: Sendable {
  /// The name of the declaration.
  public let name: String
  private let make: @Sendable (JSON) throws -> any Stage

  /// Registers `type`.
  public init<S: Stage>(_ type: S.Type) {
    name = type.name
    make = { parameters in try S(parameters: parameters.decode(S.Parameters.self)) }
  }

  /// Whether `parameters` (an object with every declared parameter) make a stage.
  /// - Throws: `DecodingError` or `StageFailure` when they don't.
  public func check(parameters: JSON) throws { _ = try make(parameters) }

  /// Makes the stage and runs it.
  public func run(parameters: JSON, context: StageContext) throws { try make(parameters).run(context) }

  /// The tensor programs that the stage runs with `parameters`, written out.
  public func programs(parameters: JSON) throws -> [ProgramListing] { try make(parameters).programs() }
}

/// Thrown by a stage to set its item aside: the input is at fault, not the run.
public struct ItemRejected: Error, Sendable, CustomStringConvertible {
  /// What is wrong with the item.
  public let reason: String
  /// Sets the item aside because of `reason`.
  public init(_ reason: String) { self.reason = reason }
  /// The message, for a reader.
  public var description: String { reason }
}

/// Thrown by a stage that can't go on.
public struct StageFailure: Error, Sendable, CustomStringConvertible {
  /// What went wrong.
  public let message: String
  /// What to do next.
  public let help: String?
  /// A failure.
  public init(_ message: String, help: String? = nil) {
    self.message = message
    self.help = help
  }
  /// The message, for a reader.
  public var description: String { message }
}

/// Thrown by `StageContext.checkCancelled` after an interrupt.
public struct StageCancelled: Error, Sendable {
  /// The run was interrupted.
  public init() {}
}
