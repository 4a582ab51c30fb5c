import CCUDA
import Foundation
import Synchronization

/// CUDA's libraries, opened where they are found at run time: the driver's, NVRTC, cuBLASLt; NCCL where there are several ranks.
public enum CUDALibraries {
  /// One of them.
  public struct Library: Sendable {
    /// A short name, such as `nvrtc`.
    public let name: String
    /// Where it was found; `nil` when it was not, or can't be used.
    public let path: String?
    /// Its version, such as `13.0`.
    public let version: String
    /// Why it can't be used, with the places tried.
    public let problem: String?
  }

  /// The driver's.
  public static var driver: Library {
    library("libcuda", FLOW_CUDA_DRIVER, ["libcuda.so.1", "libcuda.so"]) {
      var version: Int32 = 0
      return flow_cuDriverGetVersion(&version) == 0 ? "\(version / 1000).\(version % 1000 / 10)" : "unknown"
    }
  }

  /// The compiler of kernels.
  public static var nvrtc: Library {
    library("nvrtc", FLOW_CUDA_NVRTC, ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]) {
      var (major, minor): (Int32, Int32) = (0, 0)
      return flow_nvrtcVersion(&major, &minor) == 0 ? "\(major).\(minor)" : "unknown"
    }
  }

  /// Matrix products.
  public static var cublasLt: Library {
    library("cublasLt", FLOW_CUDA_LT, ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"]) {
      let version = flow_cublasLtGetVersion()
      return "\(version / 10000).\(version / 100 % 100).\(version % 100)"
    }
  }

  /// What several ranks add up their gradients by.
  public static var nccl: Library {
    library("nccl", FLOW_CUDA_NCCL, ["libnccl.so.2", "libnccl.so"]) {
      var version: Int32 = 0
      guard flow_ncclGetVersion(&version) == 0 else { return "unknown" }
      return "\(version / 10000).\(version / 100 % 100).\(version % 100)"
    }
  }

  /// Those that every use of a device needs.
  public static var report: [Library] { [driver, nvrtc, cublasLt] }

  /// What decides results apart from the device: the versions of what computes.
  public static var versions: String { "nvrtc \(nvrtc.version), cublasLt \(cublasLt.version)" }

  private struct Opened {
    var libraries: [String: Library] = [:]
    var folder: String?
    var kernels: String?
  }
  private static let opened = Mutex(Opened())

  /// For tests: from now on the libraries are those in `folder`, whatever was opened before, and compiled kernels are kept in
  /// `kernels`, where that is said, whatever the environment says, which all of a process share.
  package static func use(_ folder: String, kernels: String? = nil) {
    opened.withLock { $0 = Opened(folder: folder, kernels: kernels) }
  }

  /// Where compiled kernels are kept, if `use` has said it.
  static var kernels: String? { opened.withLock(\.kernels) }

  /// Opened at the first use.
  private static func library(
    _ name: String, _ table: Int, _ sonames: [String], version: () -> String
  ) -> Library {
    opened.withLock { opened in
      if let known = opened.libraries[name] { return known }
      let found = open(name, table, sonames, opened.folder.map { [$0] } ?? folders, version: version)
      opened.libraries[name] = found
      return found
    }
  }

  private static func open(
    _ name: String, _ table: Int, _ sonames: [String], _ folders: [String], version: () -> String
  ) -> Library {
    var tried: [String] = []
    for folder in folders {
      for soname in sonames {
        let path = folder.isEmpty ? soname : folder + "/" + soname
        if !folder.isEmpty, !FileManager.default.fileExists(atPath: path) { continue }
        if name == "nvrtc", !folder.isEmpty { openBuiltins(folder) }
        guard let handle = dlopen(path, RTLD_NOW | (name == "libcuda" ? RTLD_GLOBAL : RTLD_LOCAL)) else {
          tried.append(dlerror().map { String(cString: $0) } ?? path)
          continue
        }
        if let missing = flow_cuda_bind(Int32(table), handle) {
          tried.append("\(path) lacks \(String(cString: missing))")
          dlclose(handle)
          continue
        }
        return Library(name: name, path: path, version: version(), problem: nil)
      }
    }
    let places = folders.filter { !$0.isEmpty }.joined(separator: ", ")
    let list = tried.isEmpty ? "" : " (\(tried.prefix(4).joined(separator: "; ")))"
    return Library(
      name: name, path: nil, version: "",
      problem: "\(sonames[0]) was not found: looked in the loader's path, \(places)\(list)")
  }

  /// NVRTC looks for its part by name only: it is found when it is there already.
  private static func openBuiltins(_ folder: String) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    for name in names.sorted() where name.hasPrefix("libnvrtc-builtins.so") {
      _ = dlopen(folder + "/" + name, RTLD_NOW | RTLD_GLOBAL)
    }
  }

  /// The folders that are looked in, in order; "" is the loader's path.
  private static let folders: [String] = {
    let environment = ProcessInfo.processInfo.environment
    if let own = environment["FLOW_CUDA_PATH"], !own.isEmpty {
      // Only there: what stands in for a library must not be mixed with the real ones.
      return own.split(separator: ":").map(String.init)
    }
    var result = [""]
    for key in ["CUDA_HOME", "CUDA_PATH"] {
      if let home = environment[key], !home.isEmpty { result += [home + "/lib64", home + "/lib"] }
    }
    func children(_ folder: String, _ prefix: String = "") -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
        .filter { $0.hasPrefix(prefix) }.sorted().reversed().map { folder + "/" + $0 }
    }
    result += children("/usr/local", "cuda").map { $0 + "/lib64" }
    result += ["/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib"]
    var packages: [String] = []
    for base in [environment["VIRTUAL_ENV"], ".cuda", "/opt/torch/.venv", "/usr/local", "/usr"] {
      guard let base, !base.isEmpty else { continue }
      packages.append(base)
      for python in children(base + "/lib", "python3") {
        packages += [python + "/site-packages", python + "/dist-packages"]
      }
    }
    for place in packages {
      for part in children(place + "/nvidia") { result.append(part + "/lib") }
    }
    return result.filter { $0.isEmpty || FileManager.default.fileExists(atPath: $0) }
  }()
}
