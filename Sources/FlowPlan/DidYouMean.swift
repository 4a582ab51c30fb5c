/// Suggestions for mistyped names.
package enum DidYouMean {
  /// The nearest of `names` to `typed` by Damerau-Levenshtein distance (optimal string alignment), if it is near: at most 2
  /// edits, or a third of the length.
  package static func nearest(_ typed: String, among names: some Sequence<String>) -> String? {
    let limit = max(2, typed.count / 3)
    var best: (name: String, distance: Int)?
    for name in names {
      let d = distance(Array(typed.lowercased()), Array(name.lowercased()))
      if d <= limit, d < max(1, min(typed.count, name.count)) || d <= 1,
        best.map({ (d, name) < ($0.distance, $0.name) }) ?? true
      {
        best = (name, d)
      }
    }
    return best?.name
  }

  /// "did you mean 'x'?", or a list of what is valid.
  package static func hint(_ typed: String, among names: some Collection<String>, what: String) -> String {
    if let name = nearest(typed, among: names) { return "did you mean '\(name)'?" }
    if names.isEmpty { return "there is no \(what) here" }
    return "expected one of: \(names.sorted().joined(separator: ", "))"
  }

  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
    var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
    for i in 0...a.count { rows[i][0] = i }
    for j in 0...b.count { rows[0][j] = j }
    for i in 1...a.count {
      for j in 1...b.count {
        let cost = a[i - 1] == b[j - 1] ? 0 : 1
        rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
          rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
        }
      }
    }
    return rows[a.count][b.count]
  }
}
