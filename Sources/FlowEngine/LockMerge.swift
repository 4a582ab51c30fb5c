/// Three lock files made one, stage by stage: what git's merge driver asks for.
public enum LockMerge {
  /// What a block says whose two sides differ. A run replaces it by what is true then, out of the cache mostly.
  static let unresolved = "    unresolved: changed on both sides; the next run fills it in\n"

  /// The merged text, and the stages that both sides changed, each another way.
  ///
  /// A block that is the same on both sides is taken; one that one side changed (or added, or took away) is that side's.
  public static func merge(base: String, ours: String, theirs: String) -> (text: String, unresolved: [String])
  {
    let (old, a, b) = (LockFile.blocks(base), LockFile.blocks(ours), LockFile.blocks(theirs))
    let head = pick(header(base), header(ours), header(theirs)) ?? header(ours)
    var (text, open) = (head, [String]())
    for name in Set(a.keys).union(b.keys).sorted() {
      if let side = pick(old[name], a[name], b[name]) {
        text += side
      } else if a[name] != nil || b[name] != nil, !(a[name] == old[name] || b[name] == old[name]) {
        text += "  \(name):\n" + unresolved
        open.append(name)
      }
    }
    return (text, open)
  }

  /// The side that has changed, when only one has or both agree; `nil` when it has taken the block away, and when they differ.
  private static func pick(_ old: String?, _ a: String?, _ b: String?) -> String? {
    if a == b || b == old { return a }
    return a == old ? b : nil
  }

  /// All before the first block.
  private static func header(_ text: String) -> String {
    var head = ""
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("  ") || line.isEmpty { break }
      head += line + "\n"
    }
    return head
  }
}
