import Foundation

/// The stand-ins for CUDA's libraries (`Tests/CUDAShim`), with which the CUDA backend runs on the CPU.
public enum CUDAShim {
  /// Their folder, built when a source has changed; `nil` where they can't be built, which is printed.
  public static let folder: String? = {
    do {
      let result = try run(["bash", "scripts/cuda-shim"])
      if result.status == 0 { return result.output.trimmingCharacters(in: .whitespacesAndNewlines) }
      print("skipped: CUDA on the CPU: \(result.errors)")
    } catch { print("skipped: CUDA on the CPU: \(error)") }
    return nil
  }()

  /// A test program of `Tests/CUDAShim`, compiled once for each state of the sources; under `races` with the thread
  /// sanitizer. `nil` where nothing can be compiled.
  public static func program(_ source: String, races: Bool) throws -> String? {
    guard let folder else { return nil }
    let path = "\(folder)/\(source)\(races ? "-races" : "")"
    if FileManager.default.fileExists(atPath: path) { return path }
    let (made, compiler) = (path + UUID().uuidString, folder + "/clang++")
    var words = [compiler, "-std=c++17", "-O1", "-g", "-pthread", "-DFLOW_SHIM", "Tests/CUDAShim/" + source]
    words += ["-o", made, "-ldl", "-rdynamic"]
    words +=
      races ? raceOptions + dispatch(compiler) : ["-fsanitize=alignment,array-bounds", "-fsanitize-trap=all"]
    let result = try run(words)
    guard result.status == 0 else {
      throw Failure(description: "\(source) does not compile: \(result.errors)")
    }
    // Another process may have been faster.
    try? FileManager.default.moveItem(atPath: made, toPath: path)
    return path
  }

  /// Why a program can't be made.
  private struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// The compiler that they are built with.
  public static var compiler: String? { folder.map { $0 + "/clang++" } }

  /// What compiles and links with the thread sanitizer, as `emulator.hpp` says.
  public static let raceOptions = [
    "-fsanitize=thread", "-Wl,--wrap=__tsan_memcpy,--wrap=__tsan_memmove,--wrap=__tsan_memset",
  ]

  /// The sanitizer of Swift's clang needs Swift's dispatch.
  private static func dispatch(_ compiler: String) -> [String] {
    let real = URL(fileURLWithPath: compiler).resolvingSymlinksInPath().deletingLastPathComponent()
    let libraries = real.appendingPathComponent("../lib/swift/linux").standardizedFileURL.path
    return ["-L" + libraries, "-Wl,-rpath," + libraries, "-ldispatch", "-lBlocksRuntime"]
  }

  /// What a command did.
  public struct Result: Sendable {
    /// Its exit status, or 128 and more when it was ended.
    public let status: Int32
    /// What it wrote.
    public let output: String
    /// What it wrote to stderr.
    public let errors: String
  }

  /// Runs a command in the checkout, with more in its environment.
  public static func run(_ words: [String], _ environment: [String: String] = [:]) throws -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    process.currentDirectoryURL = Golden.repository
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "flow-run-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // Files, as a full pipe would stop a command that writes much.
    let files = ["output", "errors"].map { folder.appendingPathComponent($0) }
    for file in files { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    let handles = try files.map { try FileHandle(forWritingTo: $0) }
    (process.standardOutput, process.standardError) = (handles[0], handles[1])
    try process.run()
    process.waitUntilExit()
    for handle in handles { try handle.close() }
    let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
    let status = process.terminationStatus + (process.terminationReason == .exit ? 0 : 128)
    return Result(status: status, output: texts[0], errors: texts[1])
  }
}
