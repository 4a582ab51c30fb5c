/// Paths as text.
public enum Path {
  /// The path of the folder that `path` lies in: "" when that is the working directory, "/" of what lies in the root.
  /// `NSString.deletingLastPathComponent` of swift-corelibs-foundation traps on a name of one letter.
  public static func parent(_ path: String) -> String {
    let slash = UInt8(ascii: "/")
    // By bytes: a slash before a combining mark is one character with it.
    func trimmed(_ bytes: Substring.UTF8View) -> Substring.UTF8View {
      var bytes = bytes
      while bytes.count > 1, bytes.last == slash { bytes = bytes.dropLast() }
      return bytes
    }
    let whole = trimmed(path[...].utf8)
    if whole.elementsEqual([slash]) { return "/" }
    guard let last = whole.lastIndex(of: slash) else { return "" }
    return String(Substring(trimmed(whole[...last])))
  }
}
