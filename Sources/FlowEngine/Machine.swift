import Foundation

/// What this machine has.
enum Machine {
  /// Bytes that can be had without swapping: what the kernel says is available, or what the control group leaves.
  /// - Parameter root: comes before `/proc` and `/sys`.
  static func availableMemory(root: String = "") -> Int {
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

  /// The ids of the GPUs: those of `CUDA_VISIBLE_DEVICES` when it is set, else the numbers of `/dev/nvidia0` and so on.
  static func gpus(
    environment: [String: String] = ProcessInfo.processInfo.environment, devices: String = "/dev"
  ) -> [String] {
    if let visible = environment["CUDA_VISIBLE_DEVICES"] {
      // As CUDA does: what follows an id that is none is not visible.
      return visible.split(separator: ",").map { $0.filter { $0 != " " } }.prefix {
        !$0.isEmpty && $0 != "-1"
      } + []
    }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: devices)) ?? []
    return names.compactMap { $0.hasPrefix("nvidia") ? Int($0.dropFirst(6)) : nil }.sorted().map(String.init)
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

  /// The most memory this process held since `forgetPeakMemory()`, bytes.
  static func peakMemory() -> Int {
    // Asked for after every action, so without the detour over text.
    let status = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
    guard status >= 0 else { return 0 }
    defer { close(status) }
    let name = Array("\nVmHWM:".utf8)
    return withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
      let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<max(0, read(status, buffer.baseAddress, 4096))])
      guard let start = bytes.indices.first(where: { bytes[$0...].starts(with: name) }) else { return 0 }
      let digits = bytes[(start + name.count)...].drop { $0 == 0x20 || $0 == 0x09 }.prefix {
        $0 >= 48 && $0 < 58
      }
      return digits.reduce(0) { $0 * 10 + Int($1 - 48) } * 1024
    }
  }

  /// Begins to measure anew, so that a worker's next action is not charged with what an earlier one held.
  static func forgetPeakMemory() {
    let file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = write(file, "5", 1)
    close(file)
  }
}
