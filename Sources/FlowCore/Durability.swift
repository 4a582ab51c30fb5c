import Foundation

/// Whether what is published survives a power cut.
public enum Durability: Sendable, Hashable {
  /// Synced at commits.
  case full
  /// Left to the system, by `FLOW_DURABILITY=fast`: a power cut may lose the last runs and tear results that were laid out.
  case fast

  /// What the environment asks for.
  public static let standard: Durability =
    ProcessInfo.processInfo.environment["FLOW_DURABILITY"] == "fast" ? .fast : .full
}
