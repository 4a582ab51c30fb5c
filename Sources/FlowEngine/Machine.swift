import Foundation

/// What this machine has.
enum Machine {
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
