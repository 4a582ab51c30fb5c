import FlowCore
import Foundation

/// Files that are being written, until they are renamed to what they become. Their names tell whose they are, so that those of
/// processes that were killed can be removed, and no others.
enum Temporaries {
  /// The running system and the process space that this process's number belongs to: elsewhere that number means another one.
  private static let place: String = {
    let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
    let space = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")) ?? ""
    return String(Digest(of: boot + space).hex.prefix(8))
  }()

  /// When this process started.
  private static let birth = start(of: getpid()) ?? 0

  /// A name that no other file has.
  static func name() -> String { "\(place)-\(getpid())-\(birth)-\(UInt64.random(in: 0 ... .max))" }

  /// When a running process started, in ticks since the system did: a number that is given again to another process doesn't
  /// look like the first one. `nil` when there is no such process, or only its exit status is left. `man 5 proc`.
  private static func start(of process: Int32) -> UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      let name = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[text.index(after: name)...].split(separator: " ")
    guard fields.count > 19, !["Z", "X"].contains(fields[0]) else { return nil }
    return UInt64(fields[19])
  }

  /// Removes files of `folder` whose name begins with `prefix` that a process of this machine left when it ended; those of
  /// other machines, which can't be asked, after a day.
  static func sweep(_ folder: String, prefix: String = "") {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where name.hasPrefix(prefix) {
      let parts = name.dropFirst(prefix.count).split(separator: "-")
      let path = "\(folder)/\(name)"
      if parts.count == 4, parts[0] == place, let process = Int32(parts[1]) {
        if start(of: process).map(String.init) != String(parts[2]) { unlink(path) }
      } else if parts.count > 1, UInt64(parts[parts.count - 1]) != nil {
        var status = stat()
        if lstat(path, &status) == 0, time(nil) - status.st_mtim.tv_sec > 86_400 { unlink(path) }
      }
    }
  }
}

extension Store {
  /// Removes what killed processes were writing into the store.
  public func sweep() { Temporaries.sweep(root + "/tmp") }

  /// Removes what killed processes were writing beside files in `folder`, outside the store.
  public static func sweep(beside folder: String) {
    Temporaries.sweep(folder.isEmpty ? "." : folder, prefix: ".flow-")
  }
}
