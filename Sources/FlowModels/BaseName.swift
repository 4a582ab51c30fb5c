public import FlowCore
public import FlowNN

/// What flow calls the base of an adapter that it trained: a name that only weights of the same bytes have. What others
/// trained names its base in their way.
public enum BaseName {
  private static let prefix = "flow/"

  /// The name of weights in files with these digests.
  public static func of(_ files: [Digest]) -> String {
    var hasher = SHA256()
    for digest in files { hasher.update(digest) }
    return prefix + hasher.finish().hex.prefix(16)
  }

  /// Whether the adapter names its base so.
  public static func isGiven(_ adapter: Adapter) -> Bool { adapter.base?.hasPrefix(prefix) ?? false }
}
