import Foundation

/// The memory of this machine, as far as this process may have it.
public enum MachineMemory {
  /// Bytes that can be had without swapping: what the kernel says is available, or what the control group leaves.
  /// - Parameter root: comes before `/proc` and `/sys`.
  public static func available(root: String = "") -> Int {
    let free = field("MemAvailable:", of: root + "/proc/meminfo").map { $0 * 1024 }
    return ([free].compactMap { $0 } + groups(root)).min() ?? .max
  }

  /// What each control group around this process leaves (version 2, then version 1). Cached file pages count as free, for
  /// the kernel takes them back.
  private static func groups(_ root: String) -> [Int] {
    var found: [Int] = []
    for line in text(root + "/proc/self/cgroup").split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isUnified = parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains("memory") else { continue }
      let top = root + "/sys/fs/cgroup" + (isUnified ? "" : "/memory")
      var path = String(parts[2])
      while true {
        let folder = top + (path == "/" ? "" : path)
        let (limit, used, cached) =
          isUnified
          ? ("memory.max", "memory.current", "inactive_file")
          : ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if let limit = number("\(folder)/\(limit)"), let used = number("\(folder)/\(used)") {
          let cached = field(cached, of: "\(folder)/memory.stat") ?? 0
          found.append(max(0, limit - max(0, used - cached)))
        }
        guard path != "/", let slash = path.lastIndex(of: "/") else { break }
        path = slash == path.startIndex ? "/" : String(path[..<slash])
      }
    }
    return found
  }

  private static func text(_ path: String) -> String {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  private static func number(_ path: String) -> Int? {
    Int(text(path).prefix { $0.isNumber })
  }

  /// The number after `name` at the beginning of a line.
  private static func field(_ name: String, of path: String) -> Int? {
    for line in text(path).split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == "\t" }
      if words.count >= 2, words[0] == name { return Int(words[1]) }
    }
    return nil
  }
}
