import CCUDA
import FlowCore
import FlowTensor
import Foundation
import Synchronization

/// Compiles kernels for a device by NVRTC, and keeps what it made: in memory, and on disk by the content of all that
/// decides it.
final class KernelCompiler: Sendable {
  /// The architecture that is compiled for, such as `sm_90a`.
  let architecture: String
  private let folder: String?
  private let preparing = Mutex(())
  private let modules = Mutex<[Kernel: UInt]>([:])
  /// The most dynamic shared memory that kernels have been launched with, in bytes.
  private let shared = Mutex<[Kernel: Int]>([:])

  /// - Parameters:
  ///   - capability: compute capability times ten.
  ///   - folder: where compiled kernels are kept; nowhere when `nil`.
  init(capability: Int, folder: String? = KernelCompiler.usualFolder) {
    // The "a" targets have the architecture's own instructions (wgmma on Hopper).
    architecture = "sm_\(capability)" + (capability >= 90 ? "a" : "")
    self.folder = folder
  }

  /// `$XDG_CACHE_HOME/flow/kernels`, or what `FLOW_KERNEL_CACHE` says; an empty text there: nowhere.
  static var usualFolder: String? {
    if let own = CUDALibraries.kernels { return own }
    let environment = ProcessInfo.processInfo.environment
    if let own = environment["FLOW_KERNEL_CACHE"] { return own.isEmpty ? nil : own }
    let base = environment["XDG_CACHE_HOME"] ?? environment["HOME"].map { $0 + "/.cache" }
    return base.map { $0 + "/flow/kernels" }
  }

  /// The whole text of a kernel's source.
  /// - Throws: `TensorError.device` when the package has no such file.
  static func text(_ kernel: Kernel) throws(TensorError) -> String {
    func file(_ name: String) throws(TensorError) -> String {
      guard let text = flow_cuda_source(name) else { throw .device("there is no kernel source '\(name)'") }
      return String(cString: text)
    }
    var names = ["prelude.cuh"]
    if kernel.defines.contains("FLOW_SM90A") { names.append("hopper.cuh") }
    if case .file(let name) = kernel.source {
      let own = name + ".cu"
      names += String(cString: flow_cuda_before(own)).split(separator: "+").map(String.init) + [own]
    }
    var parts: [(name: String, text: String)] = []
    for name in names { parts.append((name, try file(name))) }
    if case .text(let text) = kernel.source { parts.append(("generated.cu", text)) }
    return parts.map { "#line 1 \"\($0)\"\n\($1)" }.joined(separator: "\n")
  }

  /// Compiles those of `kernels` that aren't there yet, on all processors, for one caller after another: each is there once.
  /// - Throws: `TensorError.device` with the compiler's log.
  func prepare(_ kernels: Set<Kernel>) throws(TensorError) {
    try preparing.withLock { (_) throws(TensorError) in try load(kernels) }
  }

  private func load(_ kernels: Set<Kernel>) throws(TensorError) {
    // One compilation gives all entries of a source.
    var missing: [Kernel] = []
    var seen: Set<Kernel> = []
    modules.withLock { known in
      for kernel in kernels {
        var unit = kernel
        unit.entry = ""
        if known[unit] == nil, seen.insert(unit).inserted { missing.append(kernel) }
      }
    }
    let work = missing
    let results = Mutex<[(Kernel, Result<[UInt8], TensorError>)]>([])
    DispatchQueue.concurrentPerform(iterations: work.count) { index in
      let result: Result<[UInt8], TensorError>
      do throws(TensorError) { result = .success(try image(work[index])) } catch { result = .failure(error) }
      results.withLock { $0.append((work[index], result)) }
    }
    for (kernel, result) in results.withLock({ $0 }) {
      let image = try result.get()
      var module: UnsafeMutableRawPointer?
      let status = image.withUnsafeBytes { flow_cuModuleLoadData(&module, $0.baseAddress) }
      try CUDADevice.check(status, "loading the kernels of \(kernel.title)")
      var unit = kernel
      unit.entry = ""
      modules.withLock { $0[unit] = UInt(bitPattern: module) }
    }
  }

  /// The function of a kernel that is prepared.
  func function(_ kernel: Kernel) throws(TensorError) -> UnsafeMutableRawPointer? {
    var unit = kernel
    unit.entry = ""
    let module = modules.withLock { $0[unit] } ?? 0
    var function: UnsafeMutableRawPointer?
    try CUDADevice.check(
      flow_cuModuleGetFunction(&function, UnsafeMutableRawPointer(bitPattern: module), kernel.entry),
      "finding the kernel \(kernel.entry) of \(kernel.title)")
    return function
  }

  /// The function of a kernel that is prepared, for launches with `bytes` of dynamic shared memory and less.
  func function(_ kernel: Kernel, shared bytes: Int) throws(TensorError) -> UnsafeMutableRawPointer? {
    let function = try function(kernel)
    // A smaller number would lower the limit of launches that are recorded.
    let status = shared.withLock { known -> Int32 in
      let most = max(bytes, known[kernel] ?? 0)
      known[kernel] = most
      // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
      return most > 48 << 10 ? flow_cuFuncSetAttribute(function, 8, Int32(most)) : 0
    }
    try CUDADevice.check(status, "giving \(kernel.title) \(bytes) bytes of shared memory")
    return function
  }

  /// The compiled code of a kernel's source: from disk, or made.
  private func image(_ kernel: Kernel) throws(TensorError) -> [UInt8] {
    let text = try KernelCompiler.text(kernel)
    var hasher = SHA256()
    for part in [CUDALibraries.versions, architecture] + kernel.options + [text] {
      hasher.field("part", part.utf8)
    }
    let key = hasher.finish().hex
    let path = folder.map { "\($0)/\(key).cubin" }
    if let path, let kept = FileManager.default.contents(atPath: path).flatMap(KernelCompiler.whole) {
      return kept
    }
    let made = try KernelCompiler.compile(kernel, text, architecture).image
    if let path, let folder {
      // Kept if it can be: whoever finds no file compiles again. A rename, so that none is found half-written.
      try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      try? Data(made + KernelCompiler.digest(made)).write(to: URL(fileURLWithPath: path), options: .atomic)
    }
    return made
  }

  /// The code in a file that was kept, unless the digest after it is another's: a damaged file is made again.
  private static func whole(_ file: Data) -> [UInt8]? {
    let image = [UInt8](file.dropLast(32))
    return !image.isEmpty && [UInt8](file.suffix(32)) == digest(image) ? image : nil
  }

  private static func digest(_ image: [UInt8]) -> [UInt8] {
    var hasher = SHA256()
    hasher.update(image)
    return hasher.finish().withBytes { [UInt8]($0) }
  }

  /// What NVRTC makes of a source.
  struct Compiled {
    let image: [UInt8]
    /// What it says, with registers, stack and spills of each entry.
    let log: String
  }

  /// - Throws: `TensorError.device` with the log.
  static func compile(
    _ kernel: Kernel, _ text: String, _ architecture: String
  ) throws(TensorError) -> Compiled {
    var program: UnsafeMutableRawPointer?
    guard flow_nvrtcCreateProgram(&program, text, "flow.cu", 0, nil, nil) == 0 else {
      throw .device("NVRTC could not take the source of \(kernel.title)")
    }
    defer { _ = flow_nvrtcDestroyProgram(&program) }
    let options = ["-arch=\(architecture)", "-std=c++17", "--ptxas-options=-v"] + kernel.options
    let strings = options.map { strdup($0) }
    defer { for string in strings { free(string) } }
    let status = flow_nvrtcCompileProgram(program, Int32(options.count), strings.map { UnsafePointer($0) })
    var size = 0
    var log = ""
    if flow_nvrtcGetProgramLogSize(program, &size) == 0, size > 1 {
      var bytes = [CChar](repeating: 0, count: size)
      if flow_nvrtcGetProgramLog(program, &bytes) == 0 {
        log = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      }
    }
    guard status == 0 else {
      let lines = log.split(separator: "\n").filter { $0.contains("error") }.prefix(5).joined(separator: "\n")
      throw .device(
        "the kernel \(kernel.title) does not compile for \(architecture) (NVRTC \(CUDALibraries.nvrtc.version), status "
          + "\(status)):\n\(lines.isEmpty ? log : lines)\nThis is a mistake of flow's: please report it; device: cpu goes on"
      )
    }
    guard flow_nvrtcGetCUBINSize(program, &size) == 0, size > 0 else {
      throw .device("NVRTC gave no code for \(kernel.title)")
    }
    var image = [CChar](repeating: 0, count: size)
    guard flow_nvrtcGetCUBIN(program, &image) == 0 else {
      throw .device("NVRTC gave no code for \(kernel.title)")
    }
    return Compiled(image: image.map { UInt8(bitPattern: $0) }, log: log)
  }
}

extension Kernel {
  /// Its compiler's own options. A fused group rounds each product and sum as it is written: were they joined where the
  /// compiler likes, the forms of a group, which it is free to see differently, would have other last bits.
  var options: [String] {
    let joins: [String] = if case .text = source { ["--fmad=false"] } else { [] }
    return joins + defines.map { "-D" + $0 }
  }

  /// For messages.
  var title: String {
    switch source {
    case .file(let name): (["\(name).cu"] + defines).joined(separator: " ")
    case .text: "a fused group (\(entry))"
    }
  }
}
