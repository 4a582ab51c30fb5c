import CProcess
import FlowCore
import Foundation

/// What a command may open: its scratch folder, what its stage declares, the system's folders, and where programs lie. Enforced
/// by the kernel's Landlock; where the kernel has none a command runs without.
final class Sandbox {
  static let help =
    "a command reads only its inputs and the system's folders: declare 'reads: [PATH]', or 'sandbox: false'"
  private static let system = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap",
    "/proc",
    "/sys",
  ]

  /// The rules' descriptor.
  let rules: Int32

  init?(program: String, action: Action, reads: [String], scratch: String) {
    let environment = ProcessInfo.processInfo.environment
    let home = environment["HOME"] ?? ""
    var readable = Sandbox.system + reads + action.files
    let folders = (environment["PATH"] ?? "").split(separator: ":").map { String($0) }
    for folder in folders + [Path.parent(program)] where folder.hasPrefix("/") {
      readable.append(folder)
      // bin/ and lib/ of one installation lie side by side; a home folder is none.
      let parent = Path.parent(folder)
      if parent != "/", parent != home { readable.append(parent) }
    }
    let lists = [readable, [scratch, "/dev"]].map { $0.map { UnsafePointer<CChar>?(strdup($0)) } + [nil] }
    defer { for text in lists.joined() { free(UnsafeMutablePointer(mutating: text)) } }
    rules = flow_sandbox(lists[0], lists[1])
    if rules < 0 { return nil }
  }

  deinit { close(rules) }
}

/// Whether command stages can be kept to what they declare on this machine.
public enum CommandSandbox {
  /// The version of the kernel's Landlock interface; `nil` where it has none.
  public static var version: Int? {
    let version = flow_sandbox_version()
    return version > 0 ? Int(version) : nil
  }
}
